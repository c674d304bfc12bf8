//! What one watch has said so far: turns its events into inputs, drops repetitions, finds out after a new list what
//! has gone, and marks interruptions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
};

use super::{pod_state, replica_set_state, service_state, slice_state};
use crate::input::{Input, Ktime, NsName, PodState, PodUid, ReplicaSetState, ServiceState, SliceState, What};
use k8s_openapi::api::{
    apps::v1::ReplicaSet, core::v1::Pod, core::v1::Service, discovery::v1::EndpointSlice,
};

/// What a watch says.
#[derive(Clone, Debug)]
pub(super) enum Event<K> {
    /// A list begins.
    Init,
    /// It has this.
    InitApply(K),
    /// That was all of it.
    InitDone,
    /// New, or changed.
    Apply(K),
    Delete(K),
}

/// A state that one watch delivers.
pub(super) trait Tracked: Clone + PartialEq {
    /// The API's object.
    type Object;
    type Key: Clone + Ord;
    /// What is remembered of it, to know it when it is said again.
    type Kept: PartialEq + std::fmt::Debug;
    /// Plural name in the API.
    const RESOURCE: &'static str;
    /// API group and plural name, as a ClusterRole has them.
    const RULE: &'static str;

    fn read(object: &Self::Object) -> Self;
    /// Its `resourceVersion`; None: it has none, or it is no number.
    fn version(object: &Self::Object) -> Option<u64>;
    fn key(&self) -> Self::Key;
    fn kept(&self, hasher: &RandomState) -> Self::Kept;
    fn applied(self) -> What;
    fn gone(key: Self::Key) -> What;
}

macro_rules! tracked {
    ($state:ident: $object:ident, $read:ident, $key:ident: $key_type:ty, $what:ident, $gone:ident, $resource:literal, $rule:literal, $kept:ty: $keep:expr) => {
        impl Tracked for $state {
            type Object = $object;
            type Key = $key_type;
            type Kept = $kept;
            const RESOURCE: &'static str = $resource;
            const RULE: &'static str = $rule;

            fn read(object: &$object) -> Self {
                $read(object)
            }

            fn version(object: &$object) -> Option<u64> {
                object.metadata.resource_version.as_deref()?.parse().ok()
            }

            fn key(&self) -> $key_type {
                self.$key.clone()
            }

            fn kept(&self, hasher: &RandomState) -> $kept {
                $keep(hasher, self)
            }

            fn applied(self) -> What {
                What::$what(self)
            }

            fn gone($key: $key_type) -> What {
                What::$gone { $key }
            }
        }
    };
}

// A pod's name is used again (StatefulSets), its uid never. What is there for the whole cluster (150,000 endpoints in its slices) is
// remembered by a number: of two states of one object none has the other's but once in 2^64.
tracked!(PodState: Pod, pod_state, uid: PodUid, Pod, PodGone, "pods", "apiGroups: [\"\"], resources: [pods]", Self: whole);
tracked!(SliceState: EndpointSlice, slice_state, slice: NsName, Slice, SliceGone, "endpointslices",
    "apiGroups: [discovery.k8s.io], resources: [endpointslices]", u64: RandomState::hash_one);
tracked!(ServiceState: Service, service_state, service: NsName, Service, ServiceGone, "services",
    "apiGroups: [\"\"], resources: [services]", u64: RandomState::hash_one);
tracked!(ReplicaSetState: ReplicaSet, replica_set_state, replica_set: NsName, ReplicaSet, ReplicaSetGone, "replicasets",
    "apiGroups: [apps], resources: [replicasets]", u64: RandomState::hash_one);

fn whole<S: Clone>(_: &RandomState, state: &S) -> S {
    state.clone()
}

/// A watch that goes on where it broke sends at once what it has missed: a choice with room for a loaded API server.
const BACKLOG_MS: u64 = 500;

/// Deletions remembered, to know a late word of what is gone: more than go between two lists while one is on its way.
const MOST_GONE: usize = 1_024;

/// The objects of one resource as they were last seen.
///
/// A watch tells each object's states in their order, once. One that does not (a proxy or an API server that is out of step with
/// itself) changes nothing here: an older `resourceVersion` of an object says nothing new, also when it is gone by now. They can
/// be compared in the API servers that there are (KEP-5504); only a new list may go back, since after a restore they do.
#[derive(Debug)]
pub(super) struct Index<S: Tracked> {
    known: BTreeMap<S::Key, Known<S>>,
    hasher: RandomState,
    /// Versions at which objects went, and their keys in that order.
    gone: BTreeMap<S::Key, u64>,
    went: VecDeque<S::Key>,
    /// Keys seen in the list that runs.
    listing: Option<BTreeSet<S::Key>>,
    /// The first list is complete.
    listed: bool,
    /// When the watch broke, until what happened since has come through it.
    broken: Option<Ktime>,
    /// When it went on without a new list.
    resumed: Option<Ktime>,
    /// It is only doubted: the API server is slow, and nothing has come since.
    doubted: bool,
}

#[derive(Debug)]
struct Known<S: Tracked> {
    state: S::Kept,
    version: Option<u64>,
}

impl<S: Tracked> Default for Index<S> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            hasher: RandomState::new(),
            gone: BTreeMap::new(),
            went: VecDeque::new(),
            listing: None,
            listed: false,
            broken: None,
            resumed: None,
            doubted: false,
        }
    }
}

impl<S: Tracked> Index<S> {
    /// The first list is complete.
    pub(super) fn listed(&self) -> bool {
        self.listed
    }

    /// The objects as they were last seen.
    pub(super) fn states(&self) -> impl Iterator<Item = &S::Kept> {
        self.known.values().map(|known| &known.state)
    }

    /// Something may be missing.
    pub(super) fn broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Nothing has come through the watch, or would have, since `since`.
    pub(super) fn interrupted(&mut self, at: Ktime, since: Ktime, out: &mut Vec<Input>) {
        self.doubted = false;
        self.say_broken(at, since, out);
    }

    /// Nothing was read since `since`: what comes at once now is late.
    pub(super) fn held_up(&mut self, at: Ktime, since: Ktime, out: &mut Vec<Input>) {
        self.doubt(at, since, out);
        self.doubt_ends(at);
    }

    /// The API server is slow to say that it is there: it may be away since `since`.
    pub(super) fn doubt(&mut self, at: Ktime, since: Ktime, out: &mut Vec<Input>) {
        if self.listed && self.broken.is_none() {
            self.doubted = true;
            self.say_broken(at, since, out);
        }
    }

    /// It was slow: what it sent meanwhile is here by `by`.
    pub(super) fn doubt_ends(&mut self, by: Ktime) {
        if self.doubted {
            self.resumed = Some(by);
        }
    }

    fn say_broken(&mut self, at: Ktime, since: Ktime, out: &mut Vec<Input>) {
        self.resumed = None;
        if self.listed && self.broken.is_none() {
            self.broken = Some(since);
            let resource = S::RESOURCE.to_owned();
            out.push(Input {
                at,
                what: What::WatchBroken { resource, since },
            });
        }
    }

    /// The watch is there again: the API server sends now what it has missed.
    pub(super) fn began(&mut self, at: Ktime) {
        self.resumed = self.broken.map(|_| at);
    }

    /// What a watch that went on had missed has come by now.
    pub(super) fn settle(&mut self, at: Ktime, out: &mut Vec<Input>) {
        if self
            .resumed
            .is_some_and(|resumed| resumed.plus_ms(BACKLOG_MS) <= at)
        {
            self.whole(at, out);
        }
    }

    /// Nothing is missing any more of what can still be told.
    fn whole(&mut self, at: Ktime, out: &mut Vec<Input>) {
        self.resumed = None;
        let doubted = std::mem::take(&mut self.doubted);
        if let Some(since) = self.broken.take() {
            let resource = S::RESOURCE.to_owned();
            let what = if doubted {
                What::WatchWhole { resource }
            } else {
                What::WatchGap { resource, since }
            };
            out.push(Input { at, what });
        }
    }

    /// Appends what follows from an event to `out`.
    pub(super) fn step(&mut self, at: Ktime, event: Event<S::Object>, out: &mut Vec<Input>) {
        // It was late, so there was a time in which it was not known.
        if std::mem::take(&mut self.doubted) {
            self.resumed = Some(at);
        }
        let mut say = |what| out.push(Input { at, what });
        match event {
            Event::Init => self.listing = Some(BTreeSet::new()),
            Event::InitApply(object) => {
                let state = S::read(&object);
                if let Some(listing) = &mut self.listing {
                    listing.insert(state.key());
                }
                self.apply(state, S::version(&object)).map(say);
            }
            Event::Apply(object) => {
                let (state, version) = (S::read(&object), S::version(&object));
                if !self.is_old(&state.key(), version) {
                    self.apply(state, version).map(say);
                }
            }
            Event::Delete(object) => {
                let (key, version) = (S::read(&object).key(), S::version(&object));
                if !self.is_old(&key, version) && self.known.remove(&key).is_some() {
                    self.bury(key.clone(), version);
                    say(S::gone(key));
                }
            }
            Event::InitDone => {
                self.listed = true;
                // What it says is so, whatever was before it.
                self.gone.clear();
                self.went.clear();
                if let Some(listing) = self.listing.take() {
                    let missing: Vec<_> = self
                        .known
                        .keys()
                        .filter(|k| !listing.contains(k))
                        .cloned()
                        .collect();
                    for key in missing {
                        self.known.remove(&key);
                        say(S::gone(key));
                    }
                }
                self.whole(at, out);
            }
        }
    }

    /// Something newer was said of it.
    fn is_old(&self, key: &S::Key, version: Option<u64>) -> bool {
        let said = match self.known.get(key) {
            Some(known) => known.version,
            None => self.gone.get(key).copied(),
        };
        version.zip(said).is_some_and(|(version, said)| version < said)
    }

    fn bury(&mut self, key: S::Key, version: Option<u64>) {
        let Some(version) = version else { return };
        if self.gone.insert(key.clone(), version).is_none() {
            self.went.push_back(key);
        }
        if self.went.len() > MOST_GONE
            && let Some(oldest) = self.went.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// The input for a state, unless it is what was last said.
    fn apply(&mut self, state: S, version: Option<u64>) -> Option<What> {
        let (key, kept) = (state.key(), state.kept(&self.hasher));
        let said = self.known.get_mut(&key);
        if let Some(known) = said
            && known.state == kept
        {
            known.version = version;
            return None;
        }
        let what = state.applied();
        let known = Known { state: kept, version };
        self.known.insert(key, known);
        Some(what)
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
