//! One node with four pods, each in a network namespace that ends with its process: nothing has a name, so nothing is left
//! behind. The node's namespace is this process's own. The server's pod has a cgroup as the kubelet makes it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    machine::field,
    traffic::{self, Done, Order, Pace},
};

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 10);
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 1, 21), Ipv4Addr::new(10, 244, 1, 22)];
pub const FLOODER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 23);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub const SERVER_UID: &str = "0000000a-0000-4000-8000-000000000000";

/// Addresses of the pods of this node.
pub fn pods() -> impl Iterator<Item = Ipv4Addr> {
    [SERVER, CLIENTS[0], CLIENTS[1], FLOODER].into_iter()
}

/// Where clients find the service's short and kept connections.
pub fn service(pace: Pace) -> SocketAddr {
    let port = if pace == Pace::Keep { 81 } else { 80 };
    (VIP, port).into()
}

fn run(command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let ran = Command::new(words[0]).args(&words[1..]).status();
    assert!(ran.is_ok_and(|status| status.success()), "`{command}` failed");
}

/// In the pod's namespace, when the node has put its end of the pair there.
pub fn configure_pod(addr: Ipv4Addr) {
    for command in [
        "ip link set lo up".to_owned(),
        format!("ip addr add {addr}/32 dev eth0"),
        "ip link set eth0 up".to_owned(),
        format!("ip route add {GATEWAY} dev eth0"),
        format!("ip route add default via {GATEWAY} dev eth0"),
        "sysctl -qw net.ipv4.ip_local_port_range=10000\t65000".to_owned(),
    ] {
        run(&command);
    }
}

/// This process's own namespaces from here on: the node's network, and mounts, since the tools want tracefs.
fn enter() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .expect("the benchmark makes network namespaces: run it as root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let tracing = "/sys/kernel/tracing";
    if !Path::new(tracing).join("events").exists() {
        // Without it the tools that need it are said to be absent.
        let _ = mount(Some("tracefs"), tracing, Some("tracefs"), MsFlags::empty(), none);
    }
    if !Path::new("/sys/kernel/debug/tracing").exists() {
        let _ = mount(
            Some("debugfs"),
            "/sys/kernel/debug",
            Some("debugfs"),
            MsFlags::empty(),
            none,
        );
    }
    run("ip link set lo up");
    run("sysctl -qw net.ipv4.ip_forward=1");
    let rules = format!(
        "add table ip kube-proxy
        add chain ip kube-proxy nat-prerouting {{ type nat hook prerouting priority -100; }}
        add chain ip kube-proxy nat-output {{ type nat hook output priority -100; }}
        add chain ip kube-proxy services
        add chain ip kube-proxy short
        add chain ip kube-proxy kept
        add map ip kube-proxy service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
        add rule ip kube-proxy nat-prerouting jump services
        add rule ip kube-proxy nat-output jump services
        add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
        add rule ip kube-proxy short meta l4proto tcp dnat ip to {SERVER}:{}
        add rule ip kube-proxy kept meta l4proto tcp dnat ip to {SERVER}:{}
        add element ip kube-proxy service-ips {{ {VIP} . tcp . 80 : goto short, {VIP} . tcp . 81 : goto kept }}",
        traffic::SHORT,
        traffic::KEPT
    );
    let loaded = Command::new("nft").arg(rules).status();
    assert!(loaded.is_ok_and(|s| s.success()), "the node's rules");
    // The table would fill in its usual two minutes.
    for timeout in ["time_wait", "close", "fin_wait", "last_ack"] {
        run(&format!(
            "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_{timeout}=1"
        ));
    }
}

/// A process that is a pod.
pub struct Pod {
    child: Child,
    orders: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Pod {
    fn start(n: usize, what: &str, addr: Ipv4Addr, cgroup: Option<&Path>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([what, &addr.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the benchmark starts itself");
        let says = BufReader::new(child.stdout.take().unwrap());
        let orders = child.stdin.take().unwrap();
        let mut pod = Self { child, orders, says };
        pod.line();
        let pid = pod.child.id();
        if let Some(cgroup) = cgroup {
            fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        run(&format!(
            "ip link add veth{n} type veth peer name eth0 netns {pid}"
        ));
        if n == 0 {
            run(&format!("ip addr add {GATEWAY}/32 dev veth0"));
        }
        run(&format!("ip link set veth{n} up"));
        run(&format!("ip route add {addr} dev veth{n}"));
        pod.tell("configure");
        pod.line();
        pod
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("a pod has ended");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.says.read_line(&mut line).unwrap();
        assert!(read > 0, "a pod has ended");
        line
    }

    pub fn order(&mut self, pace: Pace, to: SocketAddr, lasts: Duration) {
        let order = Order { pace, to, lasts };
        self.tell(&serde_json::to_string(&order).unwrap());
    }

    pub fn done(&mut self) -> Done {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that is there in each round.
pub struct World {
    pub clients: Vec<Pod>,
    pub flooder: Pod,
    _server: Pod,
    // Behind the server: a cgroup with a process in it cannot go.
    _cgroup: Cgroup,
}

impl World {
    pub fn start() -> Self {
        enter();
        let cgroup = Cgroup::make();
        let server = Pod::start(0, "serve", SERVER, Some(&cgroup.container()));
        let clients = (1..)
            .zip(CLIENTS)
            .map(|(n, addr)| Pod::start(n, "client", addr, None));
        Self {
            clients: clients.collect(),
            flooder: Pod::start(9, "client", FLOODER, None),
            _server: server,
            _cgroup: cgroup,
        }
    }
}

const OURS: &str = "zdt-bench-";

/// `zdt-bench-<pid>/kubepods/pod<uid>/<container>` in cgroup v2.
pub struct Cgroup(PathBuf);

/// The mount of cgroup v2.
fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let v2 = mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2"));
    v2.and_then(|l| l.split(' ').nth(1))
        .expect("cgroup v2 is mounted")
        .into()
}

impl Cgroup {
    fn make() -> Self {
        sweep();
        let cgroup = Self(root().join(format!("{OURS}{}", std::process::id())));
        fs::create_dir_all(cgroup.container()).unwrap();
        cgroup
    }

    fn container(&self) -> PathBuf {
        self.0
            .join(format!("kubepods/pod{SERVER_UID}/{}", "a1".repeat(32)))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Takes away what benchmarks that were killed have left.
fn sweep() {
    for entry in fs::read_dir(root()).into_iter().flatten().map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(OURS) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}

/// Directories alone: the files in them are the kernel's.
fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // A process that ends at this moment still holds it; the next benchmark takes it away.
    let _ = fs::remove_dir(dir);
}

/// On Ctrl-C: ends what this process has started, and waits until it has.
pub fn end_processes() {
    let me = std::process::id();
    let ours = || {
        let all = fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok);
        all.filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            // One that nobody has waited for holds nothing any more.
            let runs = !status.contains("State:\tZ");
            (runs && field(&status, "PPid") == Some(me.into())).then_some(pid)
        })
        .collect::<Vec<i32>>()
    };
    for _ in 0..50 {
        let ours = ours();
        if ours.is_empty() {
            return;
        }
        for pid in ours {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// On Ctrl-C: what is left of this benchmark's when all its processes have ended.
pub fn forget() {
    let me = std::process::id();
    remove(&root().join(format!("{OURS}{me}")));
    for name in ["", "start-"] {
        // Only the part that ran has one.
        let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("{OURS}{name}{me}")));
    }
}
