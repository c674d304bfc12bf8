//! What one watch has said so far: turns its events into inputs, drops repetitions, finds out after a new list what
//! has gone, and marks interruptions.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::ReplicaSet, core::v1::Pod, core::v1::Service, discovery::v1::EndpointSlice,
};
use kube::runtime::watcher::Event;

use super::{pod_state, replica_set_state, service_state, slice_state};
use crate::input::{Input, Ktime, NsName, PodState, PodUid, ReplicaSetState, ServiceState, SliceState, What};

/// A state that one watch delivers.
pub(super) trait Tracked: Clone + PartialEq {
    /// The API's object.
    type Object;
    type Key: Clone + Ord;
    /// Plural name in the API.
    const RESOURCE: &'static str;
    /// API group and plural name, as a ClusterRole has them.
    const RULE: &'static str;

    fn read(object: &Self::Object) -> Self;
    fn key(&self) -> Self::Key;
    fn applied(self) -> What;
    fn gone(key: Self::Key) -> What;
}

macro_rules! tracked {
    ($state:ident: $object:ident, $read:ident, $key:ident: $key_type:ty, $what:ident, $gone:ident, $resource:literal, $rule:literal) => {
        impl Tracked for $state {
            type Object = $object;
            type Key = $key_type;
            const RESOURCE: &'static str = $resource;
            const RULE: &'static str = $rule;

            fn read(object: &$object) -> Self {
                $read(object)
            }

            fn key(&self) -> $key_type {
                self.$key.clone()
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

// A pod's name is used again (StatefulSets), its uid never.
tracked!(PodState: Pod, pod_state, uid: PodUid, Pod, PodGone, "pods", "apiGroups: [\"\"], resources: [pods]");
tracked!(SliceState: EndpointSlice, slice_state, slice: NsName, Slice, SliceGone, "endpointslices",
    "apiGroups: [discovery.k8s.io], resources: [endpointslices]");
tracked!(ServiceState: Service, service_state, service: NsName, Service, ServiceGone, "services",
    "apiGroups: [\"\"], resources: [services]");
tracked!(ReplicaSetState: ReplicaSet, replica_set_state, replica_set: NsName, ReplicaSet, ReplicaSetGone, "replicasets",
    "apiGroups: [apps], resources: [replicasets]");

/// A watch that goes on where it broke sends at once what it has missed: a choice with room for a loaded API server.
const BACKLOG_MS: u64 = 500;

/// The objects of one resource as they were last seen.
#[derive(Debug)]
pub(super) struct Index<S: Tracked> {
    known: BTreeMap<S::Key, S>,
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

impl<S: Tracked> Default for Index<S> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
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
    pub(super) fn states(&self) -> impl Iterator<Item = &S> {
        self.known.values()
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
                self.apply(state).map(say);
            }
            Event::Apply(object) => {
                self.apply(S::read(&object)).map(say);
            }
            Event::Delete(object) => {
                let key = S::read(&object).key();
                if self.known.remove(&key).is_some() {
                    say(S::gone(key));
                }
            }
            Event::InitDone => {
                self.listed = true;
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

    /// The input for a state, unless it is what was last said.
    fn apply(&mut self, state: S) -> Option<What> {
        let key = state.key();
        if self.known.get(&key) == Some(&state) {
            return None;
        }
        self.known.insert(key, state.clone());
        Some(state.applied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"uid": uid, "name": uid, "namespace": "n", "resourceVersion": "1"},
            "status": {"phase": phase}
        }))
        .unwrap()
    }

    fn broke(index: &mut Index<PodState>, at: u64) -> usize {
        let mut out = Vec::new();
        index.interrupted(Ktime(at), Ktime(at), &mut out);
        out.len()
    }

    /// What each event led to: `+uid phase`, `-uid`, `gap`.
    fn said(index: &mut Index<PodState>, at: u64, events: Vec<Event<Pod>>) -> Vec<String> {
        let mut out = Vec::new();
        for event in events {
            index.step(Ktime(at), event, &mut out);
        }
        out.into_iter()
            .map(|input| match input.what {
                What::Pod(p) => format!("+{} {}", p.uid, p.phase),
                What::PodGone { uid } => format!("-{uid}"),
                What::WatchBroken { since, .. } => format!("broken {}", since.0),
                What::WatchGap { since, .. } => format!("gap {}..{}", since.0, input.at.0),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn listed(index: &mut Index<PodState>, at: u64, pods: &[&str]) -> Vec<String> {
        let mut events = vec![Event::Init];
        events.extend(pods.iter().map(|uid| Event::InitApply(pod(uid, "Running"))));
        events.push(Event::InitDone);
        said(index, at, events)
    }

    #[test]
    fn first_list_is_no_gap_and_says_every_object() {
        let mut index = Index::default();
        assert_eq!(listed(&mut index, 1, &["a", "b"]), ["+a Running", "+b Running"]);
        assert!(index.listed());
    }

    #[test]
    fn unchanged_state_is_not_said_again() {
        let mut index = Index::default();
        listed(&mut index, 1, &["a"]);
        let mut again = pod("a", "Running");
        again.metadata.resource_version = Some("2".into());
        assert!(said(&mut index, 2, vec![Event::Apply(again)]).is_empty());
        assert_eq!(
            said(&mut index, 2, vec![Event::Apply(pod("a", "Failed"))]),
            ["+a Failed"]
        );
    }

    #[test]
    fn new_list_after_an_interruption_marks_the_gap_and_what_went_in_it() {
        let mut index = Index::default();
        listed(&mut index, 1, &["a", "b", "c"]);
        assert_eq!((broke(&mut index, 5), broke(&mut index, 6)), (1, 0), "said once");
        assert_eq!(
            listed(&mut index, 9, &["b", "d"]),
            ["+d Running", "-a", "-c", "gap 5..9"]
        );
    }

    #[test]
    fn watch_that_resumes_where_it_was_is_a_gap_that_ends_behind_what_it_had_missed() {
        let settled = |index: &mut Index<PodState>, ms: u64| {
            let mut out = Vec::new();
            index.settle(Ktime(0).plus_ms(ms), &mut out);
            out.len()
        };
        let mut index = Index::default();
        listed(&mut index, 1, &["a"]);
        broke(&mut index, 5);
        assert_eq!(settled(&mut index, 9_000), 0, "it is not there yet");
        index.began(Ktime(0).plus_ms(9_000));
        assert_eq!(
            said(&mut index, 9, vec![Event::Delete(pod("a", "Running"))]),
            ["-a"]
        );
        assert_eq!(settled(&mut index, 9_499), 0);
        broke(&mut index, 7);
        assert_eq!(settled(&mut index, 9_600), 0, "it broke again");
        index.began(Ktime(0).plus_ms(9_700));
        assert_eq!((settled(&mut index, 10_200), settled(&mut index, 20_000)), (1, 0));
        assert!(
            said(&mut index, 10, vec![Event::Delete(pod("a", "Running"))]).is_empty(),
            "gone only once"
        );
    }

    #[test]
    fn server_that_was_only_slow_leaves_a_gap_only_where_something_came_late() {
        let settled = |index: &mut Index<PodState>, at: u64| {
            let mut out = Vec::new();
            index.settle(Ktime(0).plus_ms(at), &mut out);
            out.pop().map(|input| input.what)
        };
        let pods = || "pods".to_owned();
        let mut index = Index::default();
        listed(&mut index, 1, &["a"]);
        index.doubt(Ktime(5), Ktime(3), &mut Vec::new());
        assert_eq!(settled(&mut index, 9_000), None, "it has not answered yet");
        index.doubt_ends(Ktime(0).plus_ms(9_000));
        assert_eq!(settled(&mut index, 9_400), None);
        assert_eq!(
            settled(&mut index, 9_500),
            Some(What::WatchWhole { resource: pods() })
        );
        let (at, since) = (Ktime(0).plus_ms(20_000), Ktime(0).plus_ms(19_000));
        index.doubt(at, since, &mut Vec::new());
        let mut late = Vec::new();
        index.step(at, Event::Apply(pod("a", "Failed")), &mut late);
        index.doubt_ends(Ktime(0).plus_ms(25_000));
        assert_eq!((late.len(), settled(&mut index, 20_499)), (1, None));
        let gap = What::WatchGap {
            resource: pods(),
            since,
        };
        assert_eq!(settled(&mut index, 20_500), Some(gap));
    }

    #[test]
    fn errors_before_the_first_list_are_no_gap() {
        let mut index = Index::default();
        said(&mut index, 1, vec![Event::Init]);
        assert_eq!(broke(&mut index, 2), 0);
        assert_eq!(listed(&mut index, 3, &["a"]), ["+a Running"]);
    }

    #[test]
    fn pod_of_the_same_name_is_another_pod() {
        let mut index = Index::default();
        listed(&mut index, 1, &["a"]);
        let mut again = pod("a2", "Running");
        again.metadata.name = Some("a".into());
        assert_eq!(said(&mut index, 2, vec![Event::Apply(again)]), ["+a2 Running"]);
        assert_eq!(
            said(&mut index, 3, vec![Event::Delete(pod("a", "Running"))]),
            ["-a"]
        );
    }
}
