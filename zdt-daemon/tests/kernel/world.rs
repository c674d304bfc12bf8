//! A pod and a client in network namespaces of their own, joined by a veth pair, and the pod's cgroup. Names carry
//! the process id, and everything goes away in `Drop`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sched::{CloneFlags, setns};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// The port that the pod serves.
pub const PORT: u16 = 8080;

pub struct World {
    pod_netns: String,
    client_netns: String,
    pub pod4: IpAddr,
    pub client4: IpAddr,
    pub pod6: IpAddr,
    pub client6: IpAddr,
    /// An address of the client's network that nobody has.
    pub dead4: IpAddr,
    pub uid: String,
    pub container: String,
    cgroup_root: PathBuf,
    cgroup: PathBuf,
}

impl World {
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load eBPF programs and make network namespaces: run them as root"
        );
        let pid = std::process::id();
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let (a, b) = (100 + n, pid % 250);
        let name = format!("zdt-{pid}-{n}");
        let uid = format!("{pid:08x}-0000-4000-8000-{n:012x}");
        let container = format!("{pid:032x}{n:032x}");
        let cgroup_root = cgroup2().join(format!("{name}.slice"));
        let ip = |text: String| text.parse().unwrap();
        let world = Self {
            pod_netns: format!("{name}-pod"),
            client_netns: format!("{name}-client"),
            pod4: ip(format!("10.{a}.{b}.2")),
            client4: ip(format!("10.{a}.{b}.1")),
            dead4: ip(format!("10.{a}.{b}.77")),
            pod6: ip(format!("fd00:{a}:{b}::2")),
            client6: ip(format!("fd00:{a}:{b}::1")),
            cgroup: cgroup_root.join(format!("kubepods/besteffort/pod{uid}/{container}")),
            cgroup_root,
            uid,
            container,
        };
        fs::create_dir_all(&world.cgroup).unwrap();
        world.network(&format!("z{pid}-{n}"));
        world
    }

    fn network(&self, veth: &str) {
        let (pod, client) = (&self.pod_netns, &self.client_netns);
        ip(&format!("netns add {pod}"));
        ip(&format!("netns add {client}"));
        ip(&format!(
            "link add {veth}p netns {pod} type veth peer name {veth}c netns {client}"
        ));
        for (netns, dev, v4, v6) in [
            (pod, format!("{veth}p"), self.pod4, self.pod6),
            (client, format!("{veth}c"), self.client4, self.client6),
        ] {
            ip(&format!("-n {netns} addr add {v4}/24 dev {dev}"));
            // nodad: the address is usable at once.
            ip(&format!("-n {netns} addr add {v6}/64 dev {dev} nodad"));
            ip(&format!("-n {netns} link set lo up"));
            ip(&format!("-n {netns} link set {dev} up"));
        }
        // Packets to the dead address leave and vanish, instead of failing for want of a neighbour.
        ip(&format!(
            "-n {client} neigh add {} lladdr 02:00:00:00:00:77 dev {veth}c",
            self.dead4
        ));
    }

    /// Runs `f` in the pod's network namespace; sockets that it makes stay there.
    pub fn in_pod<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        in_netns(&self.pod_netns, f)
    }

    /// Runs `f` in the client's network namespace.
    pub fn in_client<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        in_netns(&self.client_netns, f)
    }

    pub fn pod_netns_inum(&self) -> u32 {
        let inode = fs::metadata(netns_path(&self.pod_netns)).unwrap().ino();
        u32::try_from(inode).unwrap()
    }

    /// Where version 1 of the memory controller has this world's limit, where it is used.
    fn memory_cgroup(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup/memory").join(&self.pod_netns)
    }

    /// Limits the memory of servers started later.
    pub fn limit_memory(&self, bytes: u64) {
        let v1 = self.memory_cgroup();
        if v1.parent().is_some_and(Path::exists) {
            fs::create_dir(&v1).unwrap();
            fs::write(v1.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
            return;
        }
        let mut above: Vec<_> = self.cgroup.ancestors().skip(1).take(5).collect();
        above.reverse();
        for dir in above {
            fs::write(dir.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        fs::write(self.cgroup.join("memory.max"), bytes.to_string()).unwrap();
        // Not every kernel has swap accounting.
        let _ = fs::write(self.cgroup.join("memory.swap.max"), "0");
    }

    pub fn cgroup_id(&self) -> u64 {
        fs::metadata(&self.cgroup).unwrap().ino()
    }

    /// Starts this test binary again as a server in the pod: its cgroup and its network namespace.
    pub fn server(&self, behaviour: &str) -> Server {
        // Joins the cgroup first: `ip netns exec` has a /sys of its own, without cgroups. Each step replaces the one
        // before, so it stays one process.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "echo $$ > $0/cgroup.procs && { [ ! -d $1 ] || echo $$ > $1/cgroup.procs; } \\
                 && shift && exec ip netns exec \"$@\"",
            ])
            .args([&self.cgroup, &self.memory_cgroup()])
            .arg(&self.pod_netns)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "processes::server_in_a_pod",
                "--nocapture",
            ])
            .env("ZDT_TEST_BEHAVIOUR", behaviour)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server { child, lines };
        server.says("listening");
        server
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = quiet("ip", &format!("netns del {}", self.pod_netns));
        let _ = quiet("ip", &format!("netns del {}", self.client_netns));
        let _ = fs::remove_dir(self.memory_cgroup());
        let mut dir = self.cgroup.as_path();
        while dir.starts_with(&self.cgroup_root) && fs::remove_dir(dir).is_ok() {
            let Some(parent) = dir.parent() else { break };
            dir = parent;
        }
    }
}

/// A server process; killed and reaped at the end.
pub struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server has printed the line `what`.
    pub fn says(&mut self, what: &str) {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            let read = self.lines.read_line(&mut seen).unwrap();
            assert!(
                read > 0,
                "the server ended before it said {what:?}; it said {seen:?}"
            );
            if seen[start..].trim_end().ends_with(what) {
                return;
            }
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn netns_path(name: &str) -> PathBuf {
    Path::new("/var/run/netns").join(name)
}

fn in_netns<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = File::open(netns_path(name)).unwrap();
    let thread = std::thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        f()
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where cgroup v2 is mounted.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let line = line.expect("these tests need a mounted cgroup v2 hierarchy");
    PathBuf::from(line.split(' ').nth(4).unwrap())
}

fn ip(args: &str) {
    let output = quiet("ip", args);
    assert!(
        output.as_ref().is_ok_and(|o| o.status.success()),
        "ip {args}: {output:?}"
    );
}

fn quiet(program: &str, args: &str) -> std::io::Result<std::process::Output> {
    Command::new(program).args(args.split(' ')).output()
}
