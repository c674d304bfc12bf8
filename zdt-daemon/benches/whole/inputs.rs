//! Inputs of a large cluster, made as they are asked for: lists of pods and slices, and connections that fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use zdt_daemon::input::{
    CgroupId, EndpointState, Input, Ktime, NetnsInum, NsName, Observation, PodState, PodUid, Protocol,
    ServicePort, ServiceState, Side, SlicePort, SliceState, Sock, Start, TcpCounters, TcpState, Translation,
    Tuple, Wall, What, Workload,
};

/// Endpoints in each slice, as many as the EndpointSlice controller puts into one.
const IN_SLICE: usize = 100;
/// Pods of this node; the kubelet's usual limit.
const OWN: usize = 110;
/// Ports that one client uses.
const PORTS: usize = 50_000;
pub const NODE: &str = "n0";

/// What there is besides the connections.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub pods: usize,
}

fn v4(network: u8, n: usize) -> IpAddr {
    let [_, b, c, d] = u32::try_from(n).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(network, b, c, d))
}

/// The address of the `n`th pod.
fn pod(n: usize) -> IpAddr {
    v4(10, n + 256)
}

fn name(name: String) -> NsName {
    NsName {
        namespace: "shop".into(),
        name,
    }
}

fn uid(n: usize) -> PodUid {
    PodUid(format!("{n:08x}-0000-4000-8000-000000000000").into())
}

impl Cluster {
    fn slices(self) -> usize {
        self.pods.div_ceil(IN_SLICE)
    }

    /// The first lists.
    pub fn lists(self, at: Ktime) -> Vec<Input> {
        let mut all = vec![What::Start(Start {
            node: NODE.into(),
            wall: Wall(1_795_000_000_000),
            kernel: "6.18".into(),
            node_addrs: vec![v4(192, 1)],
            netns: NetnsInum(1),
            hooks: Vec::new(),
            missing: Vec::new(),
            hz: 250,
        })];
        all.extend((0..self.slices()).map(|n| What::Service(service(n))));
        all.extend((0..self.slices()).map(|n| What::Slice(self.slice(n))));
        all.extend((0..OWN.min(self.pods)).map(|n| What::Pod(own(n))));
        all.push(What::Synced);
        all.into_iter().map(|what| Input { at, what }).collect()
    }

    fn slice(self, n: usize) -> SliceState {
        let endpoint = |pod_n| EndpointState {
            addrs: vec![pod(pod_n)],
            ready: true,
            serving: true,
            terminating: false,
            pod: Some((uid(pod_n), format!("web-{n}-5895c69847-{pod_n:05}"))),
            node: Some(format!("n{}", pod_n / OWN)),
        };
        SliceState {
            slice: name(format!("web-{n}-abcde")),
            service: format!("web-{n}"),
            ports: vec![SlicePort {
                name: "http".into(),
                port: 8080,
                protocol: "TCP".into(),
            }],
            endpoints: (n * IN_SLICE..self.pods.min((n + 1) * IN_SLICE))
                .map(endpoint)
                .collect(),
        }
    }

    /// The ends of the `n`th connection: client, service, pod.
    fn ends(self, n: usize) -> (SocketAddr, SocketAddr, SocketAddr) {
        let port = u16::try_from(10_000 + n % PORTS).unwrap();
        // Clients are pods of this node, servers all of the cluster's.
        let client = SocketAddr::new(pod(n / PORTS % OWN.min(self.pods)), port);
        let server = n.wrapping_mul(7_919) % self.pods;
        let vip = v4(172, 256 + server / IN_SLICE);
        (
            client,
            SocketAddr::new(vip, 80),
            SocketAddr::new(pod(server), 8080),
        )
    }

    /// Where the rules send connections to the `n`th pod.
    pub fn server(self, n: usize) -> SocketAddr {
        SocketAddr::new(pod(n % self.pods), 8080)
    }

    /// One of this node's pods, Ready or not.
    pub fn own_pod(self, n: usize, ready: bool, at: Ktime) -> Input {
        let mut pod = own(n % OWN.min(self.pods));
        pod.ready = ready;
        let what = What::Pod(pod);
        Input { at, what }
    }

    /// The `n`th update of slices, each in its turn: one more of its endpoints is no longer ready, or all are again.
    pub fn slice_update(self, n: usize, at: Ktime) -> Input {
        let mut slice = self.slice(n % self.slices());
        let unready = n / self.slices() % (IN_SLICE + 1);
        for endpoint in slice.endpoints.iter_mut().take(unready) {
            endpoint.ready = false;
        }
        let what = What::Slice(slice);
        Input { at, what }
    }

    /// The client of a connection sends its SYN a second time.
    pub fn retransmit(self, n: usize, at: Ktime) -> Input {
        kernel(
            at,
            Observation::Retransmit {
                sock: self.client(n, at, 0),
                err: 0,
                silent_ms: None,
            },
        )
    }

    /// The node's conntrack says which pod was chosen for it.
    pub fn translation(self, n: usize, at: Ktime) -> Input {
        let (client, dialled, server) = self.ends(n);
        let what = What::Translation(Translation {
            protocol: Protocol::Tcp,
            orig: Tuple {
                from: client,
                to: dialled,
            },
            reply: Some(Tuple {
                from: server,
                to: client,
            }),
            replied: false,
        });
        Input { at, what }
    }

    /// It gives up.
    pub fn end(self, n: usize, at: Ktime) -> Input {
        kernel(
            at,
            Observation::FlowEnd {
                sock: self.client(n, at, 110),
                old: TcpState::SynSent,
                new: TcpState::Close,
                exiting: false,
                tgid: 7,
            },
        )
    }

    fn client(self, n: usize, at: Ktime, err: i32) -> Sock {
        let (local, remote, _) = self.ends(n);
        Sock {
            side: Side::Client,
            local,
            remote,
            netns: NetnsInum(2),
            cgroup: CgroupId(0),
            cookie: n as u64 + 1,
            state: TcpState::SynSent,
            err,
            err_soft: 0,
            tcp: Some(TcpCounters {
                first_syn: Some(at.minus_ms(1_000)),
                isn: Some(u32::try_from(n).unwrap()),
                ..TcpCounters::default()
            }),
        }
    }
}

fn kernel(at: Ktime, observation: Observation) -> Input {
    let what = What::Kernel(observation);
    Input { at, what }
}

fn service(n: usize) -> ServiceState {
    ServiceState {
        service: name(format!("web-{n}")),
        vips: vec![v4(172, 256 + n)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            node_port: 0,
            protocol: "TCP".into(),
        }],
        ..ServiceState::default()
    }
}

fn own(n: usize) -> PodState {
    PodState {
        uid: uid(n),
        pod: name(format!("web-{}-5895c69847-{n:05}", n / IN_SLICE)),
        ips: vec![pod(n)],
        workload: Some(Workload {
            kind: "deployment".into(),
            name: format!("web-{}", n / IN_SLICE),
        }),
        template_hash: Some("5895c69847".into()),
        grace_s: 30,
        phase: "Running".into(),
        ready: true,
        ..PodState::default()
    }
}
