//! The loaded kernel half and its events, as the daemon sees them, cut down to one test's world.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Runtime, sync::mpsc};
use zdt_common::{Addr, Endpoint};
use zdt_daemon::{
    input::{Attribution, Input, Ktime, Observation, Place, What},
    kernel::{Attached, EventRing, Loaded, Losses, MissingHook, Options, Translator},
};

use crate::world::{PORT, World};

/// Longer than any event takes, retransmission timeouts included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A loaded kernel half, its events, and what it has counted.
type Sight = (Attached, EventRing, Losses);

/// Loaded kernel halves that no test uses just now: to load one takes ten seconds in an emulated machine. What they still watch
/// are addresses of worlds that are gone.
static SPARE: Mutex<Vec<Sight>> = Mutex::new(Vec::new());

pub struct Eyes {
    /// Until the drop.
    loaded: Option<Sight>,
    translator: Translator,
    runtime: Runtime,
    uid: String,
    addrs: Vec<IpAddr>,
    /// Events that came in one drain with the last one asked for.
    queue: VecDeque<Input>,
    /// Others may have it afterwards.
    shared: bool,
}

impl Eyes {
    /// One that another test may have had before.
    pub fn open(world: &World) -> Self {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self::of(world, spare.unwrap_or_else(|| load(&Options::default())), true)
    }

    /// A new one, loaded now.
    pub fn with(world: &World, options: &Options) -> Self {
        Self::of(world, load(options), false)
    }

    fn of(world: &World, (attached, mut ring, losses): Sight, shared: bool) -> Self {
        ring.drain(|_| ());
        Self {
            translator: attached.translator(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            uid: world.uid.clone(),
            addrs: vec![world.pod4, world.pod6, world.client4, world.client6],
            queue: VecDeque::new(),
            loaded: Some((attached, ring, losses)),
            shared,
        }
    }

    pub fn attached(&mut self) -> &mut Attached {
        &mut self.loaded.as_mut().unwrap().0
    }

    pub fn losses(&mut self) -> &mut Losses {
        &mut self.loaded.as_mut().unwrap().2
    }

    pub fn watch(&mut self, ip: IpAddr, bits: u32) {
        self.attached().watch_addr(addr(ip), bits).unwrap();
    }

    /// Watches port [`PORT`] of an address.
    pub fn serve(&mut self, ip: IpAddr) {
        self.attached()
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
            loaded,
            translator,
            runtime,
            queue,
            ..
        } = self;
        let (_, ring, _) = loaded.as_mut().unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let input = runtime.block_on(async {
            tokio::select! {
                end = ring.run(|event| sender.send(translator.input(&event.unwrap())).map(|()| true).unwrap()) => {
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
        matches!(&place.attribution, Attribution::Pod { uid, .. } if uid.0 == self.uid.as_str())
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        let Some(loaded) = self.loaded.take() else { return };
        fired(&loaded.2);
        if self.shared {
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(loaded);
        }
    }
}

/// Every hook that this kernel has.
fn load(options: &Options) -> Sight {
    let loaded = Loaded::load(options).unwrap_or_else(|e| panic!("{e}"));
    let mut attached = loaded.attach().unwrap_or_else(|e| panic!("{e}"));
    let absent = |m: &&MissingHook| attached.facts().arity(m.program.tracepoint).is_some();
    let refused: Vec<_> = attached.missing().iter().filter(absent).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let (ring, losses) = (attached.take_ring().unwrap(), attached.take_losses().unwrap());
    (attached, ring, losses)
}

/// For `cargo xtask kernels`, which asks whether each hook has fired: events since the load.
fn fired(losses: &Losses) {
    for (hook, count) in losses.emitted().unwrap_or_default() {
        if count > 0 {
            println!("fired {} {count}", hook.name());
        }
    }
}

pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr(v6.octets()),
    }
}
