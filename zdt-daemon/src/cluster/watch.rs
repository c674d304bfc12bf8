//! The four watches as one loop: their events become inputs, and the addresses in them go to the kernel half.

use std::{net::IpAddr, pin::Pin, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Fuse},
    stream::select_all,
};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::Client;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    beside::Beside,
    index::Index,
    reach::Reach,
    step::step,
    stream::{self, Broken, Seen},
    transit::Transit,
    watch_set::{Change, KernelMaps, WatchSet},
};
use crate::{
    clock,
    input::{Input, Ktime, PodState, ReplicaSetState, ServiceState, SliceState, What},
};

/// How often the watch set is looked over, and an API server that is away is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An API server of which nothing was heard for so long is asked whether it is there: a network that swallows packets ends no
/// watch.
const SILENT_MS: f64 = 10_000.0;
/// The same while endpoints come and go anywhere.
const SILENT_IN_TRANSIT_MS: f64 = 2_000.0;
/// The same while pods of this node are going, or a server of one has just stopped, whose deletion may come any moment: what
/// fails then is judged 2 s later, and by then it must be known.
const SILENT_WHILE_GOING_MS: f64 = 500.0;
/// For how long a server has just stopped.
const STIRRED_MS: f64 = 5_000.0;
/// How often that is looked at.
const PULSE: Duration = Duration::from_millis(250);
/// How long it may take to say so.
const ANSWER: Duration = Duration::from_secs(5);
/// While pods of this node are going it is in doubt after this: what fails then waits. Slow is not away: an API server has
/// such seconds when everything is rolled out, and the watches go on from there.
const DOUBTED_MS: f64 = 1_000.0;

/// What zdt itself may take for one event; what comes later than this is late. Attaching to a kernel that is busy verifying
/// others' programs has taken seconds.
const HELD_UP_MS: f64 = 1_000.0;

/// What stops the watches: the API server has answered, and waiting will not change its answer.
#[derive(Debug, Error)]
pub enum WatchError {
    #[error(
        "the API server forbids zdt to list {resource} (403): {message}. Bind its service account or user to a \
         ClusterRole with the rule {{{rule}, verbs: [list, watch]}}"
    )]
    Forbidden {
        resource: &'static str,
        rule: &'static str,
        message: String,
    },
    #[error(
        "the API server does not accept zdt's credentials (401): {0}. Renew the token or certificate in the \
         kubeconfig, or pass another one with --kubeconfig"
    )]
    Unauthorized(String),
}

/// What the watches need.
pub struct Watched {
    pub client: Client,
    /// The API server's, for messages.
    pub url: String,
    /// Name of this node.
    pub node: String,
    /// Reads this node's own addresses; bridges of network plugins come and go, so it is asked again now and then.
    pub node_addrs: Box<dyn Fn() -> Vec<IpAddr> + Send>,
    pub maps: Box<dyn KernelMaps>,
    /// When the kernel last saw a server of a pod stop, or being told to.
    pub stirred: watch::Receiver<Ktime>,
    pub to: mpsc::Sender<Input>,
    /// Told when all first lists are in.
    pub synced: oneshot::Sender<()>,
    /// Told after each event whether the API server answers.
    pub reachable: Box<dyn Fn(bool) + Send>,
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum Woken {
    Arrived(Arrived),
    Look,
    Pulse,
    Answered(bool),
}

enum Arrived {
    Pod(Result<Seen<Pod>, Broken>),
    Slice(Result<Seen<EndpointSlice>, Broken>),
    Service(Result<Seen<Service>, Broken>),
    ReplicaSet(Result<Seen<ReplicaSet>, Broken>),
}

/// Watches until nobody takes the inputs any more, or until an error that waiting does not heal.
pub async fn watch(watched: Watched) -> Result<(), WatchError> {
    let client = &watched.client;
    let own = Some(format!("spec.nodeName={}", watched.node));
    let (anew, each) = watch::channel(());
    let mut arrivals = select_all([
        stream::watch(client, own, each.clone()).map(Arrived::Pod).boxed(),
        stream::watch(client, None, each.clone())
            .map(Arrived::Slice)
            .boxed(),
        stream::watch(client, None, each.clone())
            .map(Arrived::Service)
            .boxed(),
        stream::watch(client, None, each).map(Arrived::ReplicaSet).boxed(),
    ]);
    let mut state = Watches {
        pods: Index::default(),
        slices: Index::default(),
        services: Index::default(),
        replica_sets: Index::default(),
        set: WatchSet::default(),
        transit: Transit::default(),
        beside: Beside::default(),
        reach: Reach::new(watched.url),
        maps: watched.maps,
        map_broken: false,
        heard: clock::now(),
        asked: Ktime::default(),
        doubted: false,
        stirred: watched.stirred,
        anew,
        changes: Vec::new(),
        inputs: Vec::new(),
    };

    let mut synced = Some(watched.synced);
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking: Pin<Box<Fuse<BoxFuture<'static, bool>>>> = Box::pin(Fuse::terminated());
    loop {
        let woken = tokio::select! {
            arrived = arrivals.next() => {
                let Some(arrived) = arrived else { return Ok(()) };
                Woken::Arrived(arrived)
            }
            _ = look.tick() => Woken::Look,
            _ = pulse.tick() => Woken::Pulse,
            answered = &mut asking => Woken::Answered(answered),
        };
        let now = clock::now();
        match woken {
            Woken::Arrived(arrived) => state.arrived(now, arrived)?,
            Woken::Look => {
                state.set.node(now, &(watched.node_addrs)(), &mut state.changes);
                state.set.expire(now, &mut state.changes);
                state.transit.expire(now, &mut state.changes);
                state.beside.tell(now, &mut state.changes);
                state.settle(now);
                state.unseen(now);
                state.apply_changes(now);
            }
            Woken::Pulse => {
                if !futures::future::FusedFuture::is_terminated(&*asking) {
                    state.doubt(now);
                } else if state.to_be_asked(now) {
                    state.asked = now;
                    asking.set(answers(client.clone()).boxed().fuse());
                }
            }
            Woken::Answered(true) => state.answered(now),
            Woken::Answered(false) => state.silent(now),
        }
        if state.listed()
            && let Some(synced) = synced.take()
        {
            let at = clock::now();
            state.inputs.push(Input {
                at,
                what: What::Synced,
            });
            // Nobody waiting for it is fine.
            let _ = synced.send(());
        }
        for input in state.inputs.drain(..) {
            if watched.to.send(input).await.is_err() {
                return Ok(());
            }
        }
        state.held_up(now, clock::now());
        (watched.reachable)(synced.is_none() && !state.reach.away());
    }
}

/// Whether the API server says anything at all.
async fn answers(client: Client) -> bool {
    match timeout(ANSWER, client.apiserver_version()).await {
        // A refusal is an answer.
        Ok(Ok(_) | Err(kube::Error::Api(_) | kube::Error::SerdeError(_))) => true,
        Ok(Err(_)) | Err(_) => false,
    }
}

struct Watches {
    pods: Index<PodState>,
    slices: Index<SliceState>,
    services: Index<ServiceState>,
    replica_sets: Index<ReplicaSetState>,
    set: WatchSet,
    transit: Transit,
    beside: Beside,
    reach: Reach,
    maps: Box<dyn KernelMaps>,
    map_broken: bool,
    /// The last sign of life of the API server.
    heard: Ktime,
    /// When it was last asked for one.
    asked: Ktime,
    /// It has not said so yet.
    doubted: bool,
    stirred: watch::Receiver<Ktime>,
    /// Tells the watches to connect anew.
    anew: watch::Sender<()>,
    changes: Vec<Change>,
    inputs: Vec<Input>,
}

impl Watches {
    fn listed(&self) -> bool {
        self.pods.listed() && self.slices.listed() && self.services.listed() && self.replica_sets.listed()
    }

    fn arrived(&mut self, at: Ktime, arrived: Arrived) -> Result<(), WatchError> {
        let first_new = self.inputs.len();
        let (reach, inputs) = (&mut self.reach, &mut self.inputs);
        let heard = match arrived {
            Arrived::Pod(event) => step(at, &mut self.pods, event, reach, inputs)?,
            Arrived::Slice(event) => step(at, &mut self.slices, event, reach, inputs)?,
            Arrived::Service(event) => step(at, &mut self.services, event, reach, inputs)?,
            Arrived::ReplicaSet(event) => step(at, &mut self.replica_sets, event, reach, inputs)?,
        };
        if heard {
            self.heard = at;
        }
        for input in self.inputs.iter().skip(first_new) {
            self.set.follow(at, &input.what, &mut self.changes);
            self.transit.follow(at, &input.what, &mut self.changes);
            self.beside.follow(at, &input.what);
        }
        if self.listed() {
            self.transit.settle();
            self.beside.settle();
        }
        self.beside.tell(at, &mut self.changes);
        self.apply_changes(at);
        Ok(())
    }

    /// Applied before the inputs go on: the kernel half must know an address before its first failure.
    fn apply_changes(&mut self, at: Ktime) {
        let mut failed = 0;
        for change in self.changes.drain(..) {
            if let Err(error) = self.maps.apply(change) {
                failed += 1;
                if !self.map_broken {
                    self.map_broken = true;
                    tracing::warn!("an address is not watched: {error}");
                }
            }
        }
        if failed > 0 {
            self.inputs.push(Input {
                at,
                what: What::Loss {
                    source: "watch-set".into(),
                    count: failed,
                },
            });
        }
    }

    /// Watches that went on are whole again once what they had missed is here.
    fn settle(&mut self, at: Ktime) {
        let inputs = &mut self.inputs;
        self.pods.settle(at, inputs);
        self.slices.settle(at, inputs);
        self.services.settle(at, inputs);
        self.replica_sets.settle(at, inputs);
    }

    /// Whether a pod of this node is told to go is not known now: what its end would arm is armed for all of them.
    fn unseen(&mut self, now: Ktime) {
        if self.pods.broken() || self.slices.broken() {
            for pod in self.pods.states().filter(|p| !p.host_network) {
                self.transit.doubt(now, &pod.ips, &mut self.changes);
            }
            self.beside.tell(now, &mut self.changes);
        }
    }

    fn to_be_asked(&self, now: Ktime) -> bool {
        let least = match (self.going(now), self.transit.any()) {
            _ if self.reach.away() => LOOK_EVERY.as_secs_f64() * 1e3,
            (true, _) => SILENT_WHILE_GOING_MS,
            (false, true) => SILENT_IN_TRANSIT_MS,
            (false, false) => SILENT_MS,
        };
        now.ms_since(self.heard.max(self.asked)) >= least
    }

    fn going(&self, now: Ktime) -> bool {
        self.transit.own() || now.ms_since(*self.stirred.borrow()) < STIRRED_MS
    }

    /// It has been asked, and takes its time.
    fn doubt(&mut self, now: Ktime) {
        if self.doubted || self.reach.away() || !self.going(now) || now.ms_since(self.asked) < DOUBTED_MS {
            return;
        }
        self.doubted = true;
        let (since, inputs) = (self.heard, &mut self.inputs);
        self.pods.doubt(now, since, inputs);
        self.slices.doubt(now, since, inputs);
        self.services.doubt(now, since, inputs);
        self.replica_sets.doubt(now, since, inputs);
    }

    /// It does not answer: what it has said since it was last heard may have been lost, and more than that will be.
    fn silent(&mut self, at: Ktime) {
        self.doubted = false;
        if self.reach.away() {
            return;
        }
        let (since, inputs) = (self.heard, &mut self.inputs);
        self.pods.interrupted(at, since, inputs);
        self.slices.interrupted(at, since, inputs);
        self.services.interrupted(at, since, inputs);
        self.replica_sets.interrupted(at, since, inputs);
        if let Some(text) = self.reach.failed(at, &Broken::Silent) {
            tracing::warn!("{text}");
        }
        self.anew.send_replace(());
    }

    /// From `since` on nothing was read.
    fn held_up(&mut self, since: Ktime, at: Ktime) {
        if at.ms_since(since) < HELD_UP_MS {
            return;
        }
        let inputs = &mut self.inputs;
        self.pods.held_up(at, since, inputs);
        self.slices.held_up(at, since, inputs);
        self.services.held_up(at, since, inputs);
        self.replica_sets.held_up(at, since, inputs);
    }

    fn answered(&mut self, at: Ktime) {
        if std::mem::take(&mut self.doubted) {
            // What a network had swallowed is sent again after at most as long as it was away (RFC 6298, 5.5).
            let by = Ktime(at.0 + at.0.saturating_sub(self.heard.0));
            self.pods.doubt_ends(by);
            self.slices.doubt_ends(by);
            self.services.doubt_ends(by);
            self.replica_sets.doubt_ends(by);
        }
        self.heard = at;
        if let Some(text) = self.reach.answered(at) {
            tracing::info!("{text}");
        }
    }
}
