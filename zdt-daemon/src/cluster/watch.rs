//! The four watches as one loop: their events become inputs, and the addresses in them go to the kernel half.

use std::{fmt::Debug, net::IpAddr, pin::Pin, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Fuse},
    stream::{BoxStream, select_all, unfold},
};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    beside::Beside,
    index::{Index, Tracked},
    reach::{Reach, Retry, chain, refusal},
    transit::Transit,
    watch_set::{Change, KernelMaps, WatchSet},
};
use crate::{
    clock,
    input::{Input, Ktime, PodState, ReplicaSetState, ServiceState, SliceState, What},
};

/// How often the watch set is looked over, and an API server that is away is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    pub to: mpsc::Sender<Input>,
    /// Told when all first lists are in.
    pub synced: oneshot::Sender<()>,
    /// Told after each event whether the API server answers.
    pub reachable: Box<dyn Fn(bool) + Send>,
}

enum Arrived {
    Pod(watcher::Result<Event<Pod>>),
    Slice(watcher::Result<Event<EndpointSlice>>),
    Service(watcher::Result<Event<Service>>),
    ReplicaSet(watcher::Result<Event<ReplicaSet>>),
}

/// Watches until nobody takes the inputs any more, or until an error that waiting does not heal.
pub async fn watch(watched: Watched) -> Result<(), WatchError> {
    let client = &watched.client;
    let own = watcher::Config::default().fields(&format!("spec.nodeName={}", watched.node));
    let mut arrivals = select_all([
        stream(client, own, Arrived::Pod),
        stream(client, watcher::Config::default(), Arrived::Slice),
        stream(client, watcher::Config::default(), Arrived::Service),
        stream(client, watcher::Config::default(), Arrived::ReplicaSet),
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
        changes: Vec::new(),
        inputs: Vec::new(),
    };

    let mut synced = Some(watched.synced);
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A watch that resumes is silent until something changes, so whether the server is back is asked.
    let mut asking: Pin<Box<Fuse<BoxFuture<'static, bool>>>> = Box::pin(Fuse::terminated());
    loop {
        tokio::select! {
            arrived = arrivals.next() => {
                let Some(arrived) = arrived else { return Ok(()) };
                state.arrived(clock::now(), arrived)?;
            }
            _ = look.tick() => {
                let now = clock::now();
                state.set.node(now, &(watched.node_addrs)(), &mut state.changes);
                state.set.expire(now, &mut state.changes);
                state.transit.expire(now, &mut state.changes);
                state.beside.tell(now, &mut state.changes);
                state.apply_changes(now);
                if state.reach.away() && futures::future::FusedFuture::is_terminated(&*asking) {
                    asking.set(answers(client.clone()).boxed().fuse());
                }
            }
            answered = &mut asking => {
                if answered {
                    state.answered(clock::now());
                }
            }
        }
        for input in state.inputs.drain(..) {
            if watched.to.send(input).await.is_err() {
                return Ok(());
            }
        }
        if state.listed()
            && let Some(synced) = synced.take()
        {
            // Nobody waiting for it is fine.
            let _ = synced.send(());
        }
        (watched.reachable)(synced.is_none() && !state.reach.away());
    }
}

fn stream<K>(
    client: &Client,
    config: watcher::Config,
    tag: fn(watcher::Result<Event<K>>) -> Arrived,
) -> BoxStream<'static, Arrived>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::<K>::all(client.clone());
    let fresh = move || {
        watcher::watcher(api.clone(), config.clone())
            .backoff(Retry::default())
            .boxed()
    };
    let first = fresh();
    unfold((first, fresh), |(mut events, fresh)| async move {
        let event = events.next().await?;
        // kube lists anew when a running watch reports 410, but asks for the same version again for ever when the
        // request itself is answered so (kube-runtime 5.0.0, watcher.rs, step_trampolined, State::InitListed).
        if matches!(&event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410) {
            events = fresh();
        }
        Some((event, (events, fresh)))
    })
    .map(tag)
    .boxed()
}

/// Whether the API server says anything at all.
async fn answers(client: Client) -> bool {
    match timeout(LOOK_EVERY * 5, client.apiserver_version()).await {
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
        match arrived {
            Arrived::Pod(event) => step(at, &mut self.pods, event, reach, inputs)?,
            Arrived::Slice(event) => step(at, &mut self.slices, event, reach, inputs)?,
            Arrived::Service(event) => step(at, &mut self.services, event, reach, inputs)?,
            Arrived::ReplicaSet(event) => step(at, &mut self.replica_sets, event, reach, inputs)?,
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

    fn answered(&mut self, at: Ktime) {
        if let Some(text) = self.reach.answered(at) {
            tracing::info!("{text}");
        }
    }
}

/// One event of one watch.
fn step<S: Tracked>(
    at: Ktime,
    index: &mut Index<S>,
    event: watcher::Result<Event<S::Object>>,
    reach: &mut Reach,
    inputs: &mut Vec<Input>,
) -> Result<(), WatchError> {
    let error = match event {
        Ok(event) => {
            // `Init` only says that a list is about to be asked for.
            if !matches!(event, Event::Init)
                && let Some(text) = reach.answered(at)
            {
                tracing::info!("{text}");
            }
            index.step(at, event, inputs);
            return Ok(());
        }
        Err(error) => error,
    };
    let listed = index.listed();
    index.interrupted(at);
    if refusal(&error).is_some()
        && let Some(text) = reach.answered(at)
    {
        tracing::info!("{text}");
    }
    match refusal(&error) {
        Some((401, message)) if !listed => return Err(WatchError::Unauthorized(message.to_owned())),
        Some((403, message)) if !listed => {
            return Err(WatchError::Forbidden {
                resource: S::RESOURCE,
                rule: S::RULE,
                message: message.to_owned(),
            });
        }
        // Expired: the watcher lists anew (API concepts, "410 Gone responses").
        Some((410, _)) => tracing::debug!("the watch of {} fell behind and lists anew", S::RESOURCE),
        Some((code, message)) => tracing::warn!(
            "the API server refuses the watch of {} ({code}): {message}; zdt keeps trying. It needs the rule \
             {{{}, verbs: [list, watch]}}",
            S::RESOURCE,
            S::RULE
        ),
        None => {
            if let Some(text) = reach.failed(at, &error) {
                tracing::warn!("{text}");
            } else {
                tracing::debug!("watch of {}: {}", S::RESOURCE, chain(&error));
            }
        }
    }
    Ok(())
}
