//! The low-level runtime: one thread named `runc` that starts containers and sends their signals.
//!
//! `signal_generate` shows the sender's comm, and on a real node that is `runc`. The thread lives as long as the node:
//! containers ask to be killed when the thread that made them ends (PR_SET_PDEATHSIG), so they die with the lab.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, sethostname},
};
use tokio::sync::{oneshot, watch};

use crate::net::enter_on_exec;

type Job = Box<dyn FnOnce() + Send>;

/// A handle on the thread. The thread ends with the last handle, and with it all containers.
#[derive(Clone)]
pub struct Runc {
    jobs: mpsc::SyncSender<Job>,
}

/// What to start, and where.
#[derive(Debug)]
pub struct ContainerSpec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Namespace of the pod.
    pub netns: String,
    /// Absolute; made by the caller. None: the lab's own (a program of the node, not a container).
    pub cgroup: Option<PathBuf>,
    /// The same for a memory limit that is not in the cgroup above (cgroup v1).
    pub memory: Option<PathBuf>,
    /// Hostname in a UTS namespace of its own.
    pub hostname: Option<String>,
    pub pids: Pids,
    /// Standard output and error are appended here.
    pub log: PathBuf,
}

/// Which PID namespace a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pids {
    /// The lab's: a program of the node.
    Shared,
    /// One of its own: the process is PID 1, which ignores signals that it does not handle.
    Own,
    /// That of the container whose first process has this pid: a command executed in it, which ends with it.
    Of(u32),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 + signal, as containerd reports it.
    pub code: i32,
    pub signal: Option<i32>,
}

/// A started process. Dropping it does not end it.
#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
    exit: watch::Receiver<Option<Exit>>,
    /// True once it is reaped: its pid may be another process's.
    reaped: Arc<Mutex<bool>>,
}

impl Runc {
    pub fn start() -> io::Result<Self> {
        let (jobs, received) = mpsc::sync_channel::<Job>(256);
        thread::Builder::new()
            .name("runc".to_owned())
            .spawn(move || received.iter().for_each(|job| job()))?;
        Ok(Self { jobs })
    }

    async fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the runc thread is gone");
        let (reply, replied) = oneshot::channel();
        self.jobs
            .send(Box::new(move || drop(reply.send(f()))))
            .map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }

    /// Starts a container's process.
    pub async fn create(&self, spec: ContainerSpec) -> io::Result<Process> {
        self.run(move || create(&spec)).await
    }

    /// Sends a signal; nothing when the process is dead.
    pub async fn kill(&self, process: &Process, signal: Signal) -> io::Result<()> {
        let process = process.clone();
        self.run(move || {
            let reaped = process.reaped.lock().unwrap_or_else(PoisonError::into_inner);
            if *reaped {
                return Ok(());
            }
            Ok(kill(pid_of(process.pid)?, signal)?)
        })
        .await
    }
}

impl Process {
    /// In the lab's PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it is dead.
    pub async fn wait(&self) -> Exit {
        let lost = Exit {
            code: 255,
            signal: None,
        };
        // The sender sends before it goes.
        self.exit
            .clone()
            .wait_for(Option::is_some)
            .await
            .map_or(lost, |exit| exit.unwrap_or(lost))
    }

    /// None while it runs.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).map(Pid::from_raw).map_err(io::Error::other)
}

#[expect(
    unsafe_code,
    reason = "std has no safe way to change a child before it executes its program"
)]
fn create(spec: &ContainerSpec) -> io::Result<Process> {
    let (program, args) = spec
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("a container without a command"))?;
    let log = OpenOptions::new().create(true).append(true).open(&spec.log)?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(spec.env.iter().cloned());
    // A group of its own: Ctrl-C on the terminal is for the lab, not for its containers.
    command
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    enter_on_exec(&mut command, &spec.netns)?;
    let procs = [&spec.cgroup, &spec.memory]
        .into_iter()
        .flatten()
        .map(|dir| OpenOptions::new().write(true).open(dir.join("cgroup.procs")))
        .collect::<io::Result<Vec<File>>>()?;
    let hostname = spec.hostname.clone();
    // SAFETY: only system calls on values that live as long as the closure, no allocation: async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            for mut procs in &procs {
                // 0 is the writer itself (cgroup_procs_write_start).
                procs.write_all(b"0")?;
            }
            if let Some(hostname) = &hostname {
                unshare(CloneFlags::CLONE_NEWUTS)?;
                sethostname(hostname)?;
            }
            Ok(())
        });
    }
    let mut child = match spec.pids {
        Pids::Shared => command.spawn()?,
        Pids::Own => spawn_in(&mut command, || unshare(CloneFlags::CLONE_NEWPID))?,
        Pids::Of(pid) => {
            let pids = File::open(format!("/proc/{pid}/ns/pid"))?;
            spawn_in(&mut command, || setns(pids, CloneFlags::CLONE_NEWPID))?
        }
    };
    let pid = child.id();
    let (ended, exit) = watch::channel(None);
    let reaped = Arc::new(Mutex::new(false));
    let process = Process {
        pid,
        exit,
        reaped: Arc::clone(&reaped),
    };
    let raw = pid_of(pid)?;
    thread::Builder::new().name("wait".to_owned()).spawn(move || {
        // Dead but not reaped, its pid is still its own: so nobody signals a stranger.
        let _ = waitid(Id::Pid(raw), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.wait();
        *reaped = true;
        let _ = ended.send(Some(status.map_or(
            Exit {
                code: 255,
                signal: None,
            },
            exit_of,
        )));
    })?;
    Ok(process)
}

/// unshare and setns of CLONE_NEWPID apply to the children of the calling thread; going back needs setns, because a thread
/// can unshare only from its own namespace (kernel/pid_namespace.c, copy_pid_ns).
fn spawn_in(
    command: &mut Command,
    enter: impl FnOnce() -> nix::Result<()>,
) -> io::Result<std::process::Child> {
    let own = File::open("/proc/self/ns/pid")?;
    enter()?;
    let child = command.spawn();
    setns(own, CloneFlags::CLONE_NEWPID)?;
    child
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal();
    Exit {
        code: status.code().or(signal.map(|s| 128 + s)).unwrap_or(255),
        signal,
    }
}
