//! Who looks on while the load runs: nobody, zdt, and what people use instead.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use zdt_daemon::{clock, input::Ktime};

use crate::{
    api::{self, Api, Store},
    beside::{Rollout, ready},
    machine, world,
};

/// Where zdt serves its metrics, in the node's own namespace.
pub const LISTEN: &str = "127.0.0.1:9734";
/// Of every tool; one that needs longer is said to be absent.
const START: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observer {
    Nobody,
    NobodyAgain,
    /// `true`: a pod of the loaded service is in transition.
    Zdt(bool),
    Tool(usize),
}

/// What is looked for, and what is started.
struct Tool {
    name: &'static str,
    command: &'static [&'static str],
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "tcpdump, RST filter",
        command: &[
            "tcpdump",
            "-i",
            "any",
            "-nn",
            "-l",
            "-Z",
            "root",
            "tcp[tcpflags] & tcp-rst != 0",
        ],
    },
    Tool {
        name: "conntrack -E",
        command: &["conntrack", "-E"],
    },
    Tool {
        name: "bpftrace, resets",
        command: &[
            "bpftrace",
            "-e",
            "tracepoint:tcp:tcp_send_reset, tracepoint:tcp:tcp_receive_reset { @[probe] = count(); }",
        ],
    },
    Tool {
        name: "bpftrace, states",
        command: &[
            "bpftrace",
            "-e",
            "tracepoint:sock:inet_sock_set_state { @[args->oldstate, args->newstate] = count(); }",
        ],
    },
    Tool {
        name: "bcc tcplife",
        command: &["tcplife-bpfcc"],
    },
    Tool {
        name: "bcc tcpstates",
        command: &["tcpstates-bpfcc"],
    },
];

impl Observer {
    /// In the order of the table.
    pub fn all() -> Vec<Self> {
        let ours = [Self::Nobody, Self::NobodyAgain, Self::Zdt(false), Self::Zdt(true)];
        ours.into_iter().chain((0..TOOLS.len()).map(Self::Tool)).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::NobodyAgain => "nobody, again",
            Self::Zdt(false) => "zdt, nothing in transition",
            Self::Zdt(true) => "zdt, pods in transition",
            Self::Tool(n) => TOOLS[n].name,
        }
    }

    pub fn is_tool(self) -> bool {
        matches!(self, Self::Tool(_))
    }

    /// Starts it and waits until it looks on. The error says why it is absent.
    pub fn start(self) -> Result<Running, String> {
        match self {
            Self::Nobody | Self::NobodyAgain => Ok(Running::default()),
            Self::Zdt(moving) => Ok(zdt(moving)),
            Self::Tool(n) => tool(&TOOLS[n]),
        }
    }
}

/// It ends with this process, however that ends.
pub fn with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", program])
        .stdin(Stdio::null());
    command
}

pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).any(|file| file.is_file())
}

fn tool(tool: &Tool) -> Result<Running, String> {
    if !is_installed(tool.command[0]) {
        return Err(format!("{} is not installed", tool.command[0]));
    }
    let said = std::env::temp_dir().join(format!("zdt-bench-{}.log", std::process::id()));
    let child = with_us(tool.command[0])
        .args(&tool.command[1..])
        .stdout(Stdio::null())
        .stderr(File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let mut running = Running::default();
    running.child = Some(child);
    let settled = running.settle();
    let log = fs::read_to_string(&said).unwrap_or_default();
    let _ = fs::remove_file(&said);
    settled.map_err(|why| {
        // Compilers say the reason first and show the place behind it.
        let error = |l: &&str| l.to_lowercase().contains("error");
        let reason = log.lines().find(error).or_else(|| log.lines().last());
        format!("it {why}: {}", reason.unwrap_or("without a word").trim())
    })?;
    Ok(running)
}

/// An observer that looks on.
#[derive(Default)]
pub struct Running {
    child: Option<Child>,
    rollout: Option<Rollout>,
    dir: Option<PathBuf>,
    lines: Option<std::sync::mpsc::Receiver<(Ktime, String)>>,
}

impl Running {
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until it has nothing more to do: compilers of BPF programs take seconds, and say nothing behind them.
    fn settle(&mut self) -> Result<(), &'static str> {
        const LOOK: Duration = Duration::from_millis(150);
        let (began, mut quiet, mut before) = (Instant::now(), 0, Duration::ZERO);
        while quiet < 4 {
            thread::sleep(LOOK);
            let child = self.child.as_mut().unwrap();
            if child.try_wait().unwrap().is_some() {
                return Err("ended");
            }
            if began.elapsed() > START {
                return Err("did not settle");
            }
            let now = machine::Process::look(child.id()).cpu;
            quiet = if now.saturating_sub(before) < LOOK / 50 {
                quiet + 1
            } else {
                0
            };
            before = now;
        }
        Ok(())
    }

    /// What zdt printed, with the time when it came.
    pub fn lines(&self) -> impl Iterator<Item = (Ktime, String)> + '_ {
        self.lines.iter().flat_map(|lines| lines.try_iter())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|c| c.try_wait().unwrap().is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.rollout.take());
        if let Some(mut child) = self.child.take() {
            // tcpdump, bpftrace and bcc's tools end at SIGINT or SIGTERM; it may have ended already.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
        if let Some(dir) = self.dir.take() {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// The endpoints of the loaded service: the server, one that nobody has come to yet, and maybe one that goes.
fn slice(going: Option<u8>) -> Value {
    let endpoint = |addr: String, ends: bool| json!({"addresses": [addr], "conditions": {"ready": !ends, "serving": true, "terminating": ends}});
    let mut endpoints = vec![endpoint(world::SERVER.to_string(), false)];
    endpoints.extend(going.map(|n| endpoint(format!("10.244.2.{n}"), true)));
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": crate::traffic::SHORT, "protocol": "TCP"},
            {"name": "kept", "port": crate::traffic::KEPT, "protocol": "TCP"},
            {"name": "unserved", "port": crate::traffic::UNSERVED, "protocol": "TCP"}],
        "endpoints": endpoints
    })
}

fn objects(moving: bool) -> Store {
    let store = Store::default();
    for addr in world::pods() {
        let mut pod = api::pod(&format!("pod-{addr}"), &addr.to_string());
        if addr == world::SERVER {
            pod["metadata"]["uid"] = json!(world::SERVER_UID);
        }
        store.put("pods", pod);
    }
    store.put(
        "services",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "kept", "port": 81, "protocol": "TCP"}]}
        }),
    );
    store.put("endpointslices", slice(moving.then_some(1)));
    store
}

/// All of zdt, with an API server that has the objects of this world.
fn zdt(moving: bool) -> Running {
    let store = objects(moving);
    let server = Api::start(&store);
    let dir = std::env::temp_dir().join(format!("zdt-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let kubeconfig = api::kubeconfig(&dir, server.addr);
    let mut running = spawn_zdt(&kubeconfig, "n1");
    let step = |store: &Store, n: u64| {
        let going = u8::try_from(1 + n % 249).unwrap();
        store.put("endpointslices", slice(Some(going)));
    };
    running.rollout = Some(Rollout::start(store, server, moving.then_some(step)));
    running.dir = Some(dir);
    running
}

/// `zdt run`, when it says that it is ready.
pub fn spawn_zdt(kubeconfig: &std::path::Path, node: &str) -> Running {
    let mut child = with_us(env!("CARGO_BIN_EXE_zdt"))
        .args([
            "run",
            "-o",
            "json",
            "--node",
            node,
            "--listen",
            LISTEN,
            "--kubeconfig",
        ])
        .arg(kubeconfig)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (to, lines) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            // Nobody asks any more at the end.
            let _ = to.send((clock::now(), line));
        }
    });
    ready(child.stderr.take().unwrap());
    let mut running = Running::default();
    (running.child, running.lines) = (Some(child), Some(lines));
    running
}
