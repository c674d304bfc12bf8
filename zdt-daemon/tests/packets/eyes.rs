//! The kernel half as loaded on one world's node, and the packets that it reports.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use zdt_common::{ADDR_LOCAL_POD, Addr, Endpoint, Service};
use zdt_daemon::{
    clock,
    input::{Ktime, Observation, Packet},
    kernel::{Attached, EventRing, Loaded, Options, Translator},
};

use crate::world::World;

/// IPPROTO_TCP, IPPROTO_UDP.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// Longer than any event takes; a neighbour that does not answer is given up after 3 s.
const PATIENCE_MS: f64 = 8_000.0;

pub struct Eyes {
    pub attached: Attached,
    ring: EventRing,
    translator: Translator,
    /// Seen, and not asked for yet.
    queue: Vec<(Ktime, Observation)>,
}

/// For `cargo xtask kernels`, which asks whether each hook has fired.
impl Drop for Eyes {
    fn drop(&mut self) {
        let Some(losses) = self.attached.take_losses() else {
            return;
        };
        for (hook, count) in losses.emitted().unwrap_or_default() {
            if count > 0 {
                println!("fired {} {count}", hook.name());
            }
        }
    }
}

impl Eyes {
    pub fn open(world: &World) -> Self {
        let options = Options {
            netns: world.netns_inum("node"),
            ..Options::default()
        };
        let mut attached = Loaded::load(&options)
            .and_then(Loaded::attach)
            .unwrap_or_else(|e| panic!("{e}"));
        // icmp_send is not everywhere.
        let missing: Vec<_> = attached.missing().iter().map(|m| m.program.name).collect();
        for name in ["kfree_skb", "net_dev_queue"] {
            assert!(!missing.contains(&name), "{:?}", attached.missing());
        }
        Self {
            ring: attached.take_ring().unwrap(),
            translator: attached.translator(),
            queue: Vec::new(),
            attached,
        }
    }

    pub fn watch(&mut self, ip: IpAddr, bits: u32) {
        self.attached.watch_addr(addr(ip), bits).unwrap();
    }

    /// Says that a service is at an address and port; None: at a port of the node.
    pub fn service(&mut self, ip: Option<IpAddr>, port: u16, protocol: u8) {
        let addr = ip.map_or(Addr::default(), addr);
        let service = Service {
            addr,
            port,
            protocol,
            pad: 0,
        };
        self.attached.watch_service(service).unwrap();
    }

    /// Says that a pod of this node serves at an address.
    pub fn endpoint(&mut self, at: SocketAddr) {
        self.watch(at.ip(), ADDR_LOCAL_POD);
        let endpoint = Endpoint {
            addr: addr(at.ip()),
            port: at.port(),
            pad: 0,
        };
        self.attached.watch_endpoint(endpoint).unwrap();
    }

    /// Says that a pod is going or coming.
    pub fn transit(&mut self, ip: IpAddr) {
        self.attached.watch_transit(addr(ip)).unwrap();
    }

    /// What is there now.
    pub fn look(&mut self) -> &mut Vec<(Ktime, Observation)> {
        let Self {
            ring,
            translator,
            queue,
            ..
        } = self;
        ring.drain(|event| {
            let event = event.unwrap();
            let observation = translator.observation(&event);
            if packet(&observation).is_some() {
                queue.push((Ktime(event.ktime_ns), observation));
            }
        });
        queue
    }

    /// Takes the answers and the ends of the connection whose server's socket has this cookie that have been reported by now,
    /// in their order. Other worlds have the same addresses, and the program of a cgroup sees them all.
    pub fn answers(&mut self, cookie: u64) -> Vec<Observation> {
        let mut seen = Vec::new();
        let Self { ring, translator, .. } = self;
        ring.drain(|event| {
            let observation = translator.observation(&event.unwrap());
            if let Observation::Answer { sock, .. } | Observation::FlowEnd { sock, .. } = &observation
                && sock.cookie == cookie
            {
                seen.push(observation);
            }
        });
        seen
    }

    /// Takes the next report of a packet.
    pub fn next(&mut self) -> Observation {
        let began = clock::now();
        while self.look().is_empty() {
            assert!(
                clock::now().ms_since(began) < PATIENCE_MS,
                "no packet was reported in time"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self.queue.remove(0).1
    }

    /// Takes the next report about a packet to `to`, which is the first of all that are left.
    pub fn next_to(&mut self, to: SocketAddr) -> Observation {
        let next = self.next();
        assert_eq!(packet(&next).unwrap().to, to, "{next:#?}");
        next
    }
}

/// The packet of an observation, if it is about one.
pub fn packet(observation: &Observation) -> Option<&Packet> {
    match observation {
        Observation::Forwarded { packet }
        | Observation::Dropped { packet, .. }
        | Observation::IcmpSent { packet, .. } => Some(packet),
        _ => None,
    }
}

pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr(v6.octets()),
    }
}
