//! A node between a client outside the cluster and a pod: three network namespaces, the pod's on a bridge as network
//! plugins make it, and the node's rules as kube-proxy's. Names carry the process id; everything goes away in `Drop`.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::MetadataExt,
    process::Command,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::sched::{CloneFlags, setns};

/// The port of each service.
pub const PORT: u16 = 80;
/// The port that the pod serves.
pub const POD_PORT: u16 = 8080;
pub const NODE_PORT: u16 = 30080;

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub client: IpAddr,
    /// The node's towards the client, and towards the pod.
    pub node: IpAddr,
    pub gateway: IpAddr,
    pub pod: IpAddr,
    /// In the pods' network, and nobody's.
    pub dead: IpAddr,
    pub vip: IpAddr,
    pub other_vip: IpAddr,
}

/// The same in every world: each has namespaces of its own. Not the lab's: a zdt that runs beside must not take them for its pods.
pub fn v4() -> Family {
    Family::of([
        "198.18.0.2",
        "198.18.0.1",
        "10.245.1.1",
        "10.245.1.5",
        "10.245.1.77",
        "10.97.0.80",
        "10.97.0.81",
    ])
}

pub fn v6() -> Family {
    Family::of([
        "fd00:18::2",
        "fd00:18::1",
        "fd00:244::1",
        "fd00:244::5",
        "fd00:244::77",
        "fd00:96::80",
        "fd00:96::81",
    ])
}

impl Family {
    fn of(addrs: [&str; 7]) -> Self {
        let [client, node, gateway, pod, dead, vip, other_vip] = addrs.map(|a| a.parse().unwrap());
        Self {
            client,
            node,
            gateway,
            pod,
            dead,
            vip,
            other_vip,
        }
    }

    /// `iptables` or its twin.
    pub fn tool(&self) -> &'static str {
        if self.vip.is_ipv4() {
            "iptables"
        } else {
            "ip6tables"
        }
    }
}

/// Where a pod at an address serves.
pub fn target(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, POD_PORT)
}

/// A flood in one world uses up the rate limits of every other, since a program of a cgroup sees them all.
static FLOOD: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held, not read")]
enum Company {
    Welcome(RwLockReadGuard<'static, ()>),
    Unwanted(RwLockWriteGuard<'static, ()>),
}

pub struct World {
    name: String,
    /// Ends the echo servers.
    over: Arc<AtomicBool>,
    _company: Company,
}

impl World {
    pub fn new() -> Self {
        let others = FLOOD.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(Company::Welcome(others))
    }

    /// The only world while it lasts.
    pub fn alone() -> Self {
        let others = FLOOD.write().unwrap_or_else(PoisonError::into_inner);
        Self::with(Company::Unwanted(others))
    }

    fn with(company: Company) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load eBPF programs and make network namespaces: run them as root"
        );
        let name = format!(
            "zp{}-{}",
            std::process::id(),
            WORLDS.fetch_add(1, Ordering::Relaxed)
        );
        let world = Self {
            name,
            over: Arc::default(),
            _company: company,
        };
        let [client, node, pod] = ["client", "node", "pod"].map(|n| world.netns(n));
        for netns in [&client, &node, &pod] {
            run(&format!("ip netns add {netns}"));
            run(&format!("ip -n {netns} link set lo up"));
        }
        run(&format!(
            "ip link add eth0 netns {client} type veth peer name eth0 netns {node}"
        ));
        run(&format!(
            "ip link add eth0 netns {pod} type veth peer name veth1 netns {node}"
        ));
        run(&format!("ip -n {node} link add cni0 type bridge"));
        run(&format!("ip -n {node} link set veth1 master cni0 up"));
        for (netns, dev, addrs) in [
            (&client, "eth0", [v4().client, v6().client]),
            (&node, "eth0", [v4().node, v6().node]),
            (&node, "cni0", [v4().gateway, v6().gateway]),
            (&pod, "eth0", [v4().pod, v6().pod]),
        ] {
            for (addr, rest) in addrs.iter().zip(["/24", "/64 nodad"]) {
                run(&format!("ip -n {netns} addr add {addr}{rest} dev {dev}"));
            }
            run(&format!("ip -n {netns} link set {dev} up"));
        }
        // A service's address is on no network, so the node needs a default route for it; not back to where the client
        // is, or the node tells it so by an ICMP redirect, which counts against the rate of the errors that follow
        // (net/ipv4/route.c ip_rt_send_redirect).
        for (netns, v4, v6) in [
            (&client, v4().node, v6().node),
            (&node, v4().pod, v6().pod),
            (&pod, v4().gateway, v6().gateway),
        ] {
            run(&format!("ip -n {netns} route add default via {v4}"));
            run(&format!("ip -n {netns} -6 route add default via {v6}"));
        }
        world.node("sysctl -qw net.ipv4.ip_forward=1");
        world.node("sysctl -qw net.ipv6.conf.all.forwarding=1");
        for family in [v4(), v6()] {
            world.reaches("client", family.node);
            world.reaches("node", family.pod);
        }
        world
    }

    fn netns(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// Inode number of the namespace `client`, `node` or `pod`.
    pub fn netns_inum(&self, which: &str) -> u32 {
        let inode = fs::metadata(format!("/run/netns/{}", self.netns(which)))
            .unwrap()
            .ino();
        u32::try_from(inode).unwrap()
    }

    /// Runs a command on the node.
    pub fn node(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.netns("node")));
    }

    /// Runs `f` in the namespace `client`, `node` or `pod`; sockets that it makes stay there.
    pub fn inside<T: Send + 'static>(&self, which: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = File::open(format!("/run/netns/{}", self.netns(which))).unwrap();
        let thread = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Waits until a link carries packets: IPv6 drops what comes before a device is ready (net/ipv6/addrconf.c
    /// addrconf_notify). A port without a listener answers with a RST.
    fn reaches(&self, from: &str, to: IpAddr) {
        let closed = SocketAddr::new(to, 1);
        for _ in 0..20 {
            let error = self.inside(from, move || {
                TcpStream::connect_timeout(&closed, Duration::from_millis(500)).unwrap_err()
            });
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                return;
            }
        }
        panic!("{from} does not reach {to}");
    }

    /// Sends connections to a service's address on to an address, as kube-proxy's chains do.
    pub fn translate(&self, family: &Family, protocol: &str, vip: IpAddr, to: IpAddr) {
        let (tool, to) = (family.tool(), target(to));
        for chain in ["PREROUTING", "OUTPUT"] {
            self.node(&format!(
                "{tool} -w -t nat -A {chain} -d {vip} -p {protocol} --dport {PORT} -j DNAT --to-destination {to}"
            ));
        }
    }

    /// A SYN from the client (one, unless it is answered within the second), and what came of it. Returns the client's
    /// address when it is connected.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.inside("client", move || {
            TcpStream::connect_timeout(&to, Duration::from_millis(800))
        })
    }

    /// A datagram from the client; the socket that sent it.
    pub fn datagram(&self, to: SocketAddr) -> UdpSocket {
        self.inside("client", move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket.send(b"?").unwrap();
            socket
        })
    }

    /// Accepts connections in the pod, answers each with a byte and closes it; echoes datagrams.
    pub fn serve(&self) {
        let sockets = self.inside("pod", || {
            let any = "[::]:8080";
            (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
        });
        let (listener, datagrams) = sockets;
        listener.set_nonblocking(true).unwrap();
        datagrams
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let over = Arc::clone(&self.over);
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !over.load(Ordering::Relaxed) {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = std::io::Write::write_all(&mut stream, b"!");
                }
                if let Ok((_, peer)) = datagrams.recv_from(&mut buffer) {
                    let _ = datagrams.send_to(b"!", peer);
                }
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for which in ["client", "node", "pod"] {
            let netns = self.netns(which);
            let _ = Command::new("ip").args(["netns", "del", &netns]).output();
        }
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    assert!(
        output.as_ref().is_ok_and(|o| o.status.success()),
        "{command}: {output:?}"
    );
}
