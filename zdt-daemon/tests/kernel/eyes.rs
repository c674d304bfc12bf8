//! The loaded kernel half and its events, as the daemon sees them, cut down to one test's world.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use tokio::{runtime::Runtime, sync::mpsc};
use zdt_common::{Addr, Endpoint};
use zdt_daemon::{
    input::{Attribution, Input, Ktime, Observation, Place, What},
    kernel::{Attached, EventRing, Loaded, Options, Translator},
};

use crate::world::{PORT, World};

/// Longer than any event takes, retransmission timeouts included.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Eyes {
    pub attached: Attached,
    ring: EventRing,
    translator: Translator,
    runtime: Runtime,
    uid: String,
    addrs: Vec<IpAddr>,
    /// Events that came in one drain with the last one asked for.
    queue: VecDeque<Input>,
}

impl Eyes {
    pub fn open(world: &World) -> Self {
        Self::with(world, &Options::default())
    }

    pub fn with(world: &World, options: &Options) -> Self {
        let loaded = Loaded::load(options).unwrap_or_else(|e| panic!("{e}"));
        let mut attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
        assert!(attached.missing().is_empty(), "{:?}", attached.missing());
        Self {
            ring: attached.take_ring().unwrap(),
            translator: attached.translator(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            uid: world.uid.clone(),
            addrs: vec![world.pod4, world.pod6, world.client4, world.client6],
            queue: VecDeque::new(),
            attached,
        }
    }

    pub fn watch(&mut self, ip: IpAddr, bits: u32) {
        self.attached.watch_addr(addr(ip), bits).unwrap();
    }

    /// Watches port [`PORT`] of an address.
    pub fn serve(&mut self, ip: IpAddr) {
        self.attached
            .watch_endpoint(Endpoint {
                addr: addr(ip),
                port: PORT,
                pad: 0,
            })
            .unwrap();
    }

    /// The next event of this test's world.
    pub fn next(&mut self) -> (Ktime, Observation) {
        loop {
            let input = match self.queue.pop_front() {
                Some(input) => input,
                None => self.wait(),
            };
            let What::Kernel(observation) = input.what else {
                panic!("{input:?}")
            };
            if self.is_ours(&observation) {
                return (input.at, observation);
            }
        }
    }

    /// The next event that `wanted` accepts; those before it are dropped.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Observation) -> bool) -> (Ktime, Observation) {
        let mut seen = Vec::new();
        loop {
            let before = seen.len();
            let (at, observation) = self.next();
            if wanted(&observation) {
                return (at, observation);
            }
            seen.push(observation);
            assert!(before < 500, "no {what} in {seen:#?}");
        }
    }

    fn wait(&mut self) -> Input {
        let Self {
            ring,
            translator,
            runtime,
            queue,
            ..
        } = self;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let input = runtime.block_on(async {
            tokio::select! {
                end = ring.run(|event| sender.send(translator.input(&event.unwrap())).unwrap()) => {
                    panic!("the ring reader ended: {end:?}")
                }
                first = tokio::time::timeout(PATIENCE, receiver.recv()) => first,
            }
        });
        while let Ok(more) = receiver.try_recv() {
            queue.push_back(more);
        }
        input
            .expect("no event came in time")
            .expect("the ring reader keeps its end of the channel")
    }

    /// Other tests run on the same kernel.
    fn is_ours(&self, observation: &Observation) -> bool {
        match observation {
            Observation::FlowEnd { sock, .. }
            | Observation::Answer { sock, .. }
            | Observation::ResetSent { sock, .. }
            | Observation::ResetReceived { sock }
            | Observation::SockError { sock }
            | Observation::Retransmit { sock, .. } => self.addrs.contains(&sock.local.ip()),
            Observation::Listener { place, .. }
            | Observation::Signal { place, .. }
            | Observation::Exit { place, .. }
            | Observation::OomVictim { place, .. } => self.is_our_place(place),
            Observation::ListenQueue { local, .. } => self.addrs.contains(&local.ip()),
            // Others' tests: tables in tests/iptables_legacy.rs, packets in tests/packets.rs.
            Observation::TableReplaced { .. }
            | Observation::Forwarded { .. }
            | Observation::Dropped { .. }
            | Observation::IcmpSent { .. } => false,
        }
    }

    fn is_our_place(&self, place: &Place) -> bool {
        matches!(&place.attribution, Attribution::Pod { uid, .. } if uid.0 == self.uid)
    }
}

pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr(v6.octets()),
    }
}
