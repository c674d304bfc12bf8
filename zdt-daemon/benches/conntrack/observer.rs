//! Who looks on while the load runs: nobody, zdt's part that this benchmark is about, all of zdt, and conntrack's own tool.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde_json::{Value, json};
use zdt_daemon::{
    clock,
    input::{Protocol, Tuple},
    netfilter::{conntrack::Lookup, counters::Counters, dump::Counter, nftables::Watcher},
};

use crate::{
    api::{self, Api, Store},
    beside::{Rollout, ready},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observer {
    Nobody,
    NobodyAgain,
    /// `true`: in transition.
    Part(bool),
    Zdt(bool),
    /// `conntrack -E` of one pod, and of everything.
    EventsOfOne,
    Events,
}

pub const ALL: [Observer; 8] = [
    Observer::Nobody,
    Observer::NobodyAgain,
    Observer::Part(false),
    Observer::Part(true),
    Observer::Zdt(false),
    Observer::Zdt(true),
    Observer::EventsOfOne,
    Observer::Events,
];

/// Endpoints that this node routes to and that no load goes to.
pub fn far(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 9, n)
}

impl Observer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::NobodyAgain => "nobody, again",
            Self::Part(false) => "part, nothing in transition",
            Self::Part(true) => "part, in transition",
            Self::Zdt(false) => "zdt, nothing in transition",
            Self::Zdt(true) => "zdt, in transition",
            Self::EventsOfOne => "conntrack -E of one pod",
            Self::Events => "conntrack -E",
        }
    }

    /// Starts it and waits until it looks on.
    pub fn start(self) -> Running {
        match self {
            Self::Nobody | Self::NobodyAgain => Running::default(),
            Self::Part(moving) => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.arg(if moving { MOVING } else { STILL });
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut child = command.spawn().unwrap();
                // It says one line when it is ready.
                BufReader::new(child.stdout.take().unwrap())
                    .read_line(&mut String::new())
                    .unwrap();
                Running::of(child)
            }
            Self::Zdt(moving) => zdt(moving),
            Self::EventsOfOne => events(&["--reply-src", "10.244.9.1"]),
            Self::Events => events(&[]),
        }
    }
}

fn events(more: &[&str]) -> Running {
    let mut command = Command::new("conntrack");
    command.arg("-E").args(more);
    Running::of(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

/// An observer that looks on.
#[derive(Default)]
pub struct Running {
    child: Option<Child>,
    rollout: Option<Rollout>,
    dir: Option<PathBuf>,
}

impl Running {
    fn of(child: Child) -> Self {
        Self {
            child: Some(child),
            ..Self::default()
        }
    }

    /// User and system time so far, of /proc/PID/stat (proc(5): fields 14 and 15, behind the name in brackets).
    pub fn cpu(&self) -> Duration {
        let Some(child) = &self.child else {
            return Duration::ZERO;
        };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().unwrap()).sum();
        let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
        Duration::from_secs_f64(ticks as f64 / per_second as f64)
    }

    pub fn stop(self) {
        drop(self.rollout);
        if let Some(mut child) = self.child {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
        if let Some(dir) = self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

const STILL: &str = "--part-still";
const MOVING: &str = "--part-moving";

/// Whether this process is a [`Observer::Part`].
pub fn as_child() -> Option<bool> {
    match std::env::args().nth(1)?.as_str() {
        STILL => Some(false),
        MOVING => Some(true),
        _ => None,
    }
}

/// What of zdt asks conntrack and follows the rules, at the pace of `app/questions.rs`; in transition each second: the
/// counters, a dump for a pod that begins to end and one for a pod that is gone, and 300 look-ups.
pub fn part(moving: bool) {
    let mut watcher = Watcher::open().unwrap();
    let (mut counters, mut counter, mut lookup) = (
        Counters::open().unwrap(),
        Counter::default(),
        Lookup::open().unwrap(),
    );
    println!("ready");
    std::io::stdout().flush().unwrap();
    let (mut turn, mut due) = (0_u8, Instant::now());
    let every = Duration::from_secs(if moving { 1 } else { 10 });
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left.as_millis()).unwrap();
        if poll(&mut [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)], wait).unwrap() > 0 {
            watcher.next_generations(clock::now()).unwrap();
        }
        if Instant::now() < due {
            continue;
        }
        due += every;
        counters.since_last().unwrap();
        if !moving {
            continue;
        }
        for pod in [far(turn), far(turn.wrapping_add(1) % 250)] {
            counter.pinned(&[IpAddr::V4(pod)]).unwrap();
        }
        for port in 0..300 {
            let orig = Tuple {
                from: SocketAddr::from((far(turn), 40_000 + port)),
                to: SocketAddr::from(([10, 96, 0, 1], 80)),
            };
            lookup.translation(Protocol::Tcp, orig).unwrap();
        }
        turn = (turn + 1) % 250;
    }
}

fn slice(first: u8, terminating: bool) -> Value {
    let endpoint = |n: u8| {
        let ends = terminating && n == first;
        json!({"addresses": [far(n % 250)], "conditions": {"ready": !ends, "serving": true, "terminating": ends}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "far-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "far"}},
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": (first..first + 4).map(endpoint).collect::<Vec<_>>()
    })
}

/// All of zdt, with an API server that has a few objects.
fn zdt(moving: bool) -> Running {
    let store = Store::default();
    store.put("endpointslices", slice(1, false));
    let server = Api::start(&store);
    let dir = std::env::temp_dir().join(format!("zdt-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zdt"));
    command
        .args(["run", "-o", "json", "--node", "n1", "--kubeconfig"])
        .arg(api::kubeconfig(&dir, server.addr))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    ready(child.stderr.take().unwrap());
    let step = |store: &Store, n: u64| {
        let first = u8::try_from(1 + n % 239).unwrap();
        if n > 0 {
            store.put("endpointslices", slice(first, false));
        }
        store.put("endpointslices", slice(first, true));
    };
    Running {
        child: Some(child),
        rollout: Some(Rollout::start(store, server, moving.then_some(step))),
        dir: Some(dir),
    }
}
