//! The signs that a pod is to get no more new connections, or may get some: where its propagation begins to be followed.

use super::{
    Correlator,
    early::Sent,
    endpoints::{News, Told},
    flow::Flow,
    pods::PodChange,
    propagation::Followed,
    rollout::Elsewhere,
};
use crate::{
    input::{Ktime, PodState, PodUid, Protocol, RulesState},
    verdict::{Change, Since},
};

/// The watches that tell them, by the names of their resources.
const PODS: &str = "pods";
const SLICES: &str = "endpointslices";

impl Correlator {
    pub(super) fn pod_applied(&mut self, at: Ktime, state: &PodState) {
        let before = self.pods.get(&state.uid).filter(|p| p.known);
        let was_ready = before.map(|p| p.state.ready);
        let missed_since = self.blind.late(PODS);
        let change = self.pods.applied(at, state, missed_since, self.start.as_ref());
        let deleted = self.deleted(at, &state.uid);
        self.rollouts.pod_changed(at, state, change, deleted);
        let sign = match (change, was_ready) {
            // Nobody knows when.
            _ if missed_since.is_some() || self.told_late(at, &state.uid) => return,
            // A pod that was terminating when it was first seen has been so for a time that nobody knows.
            (PodChange::Deleted, Some(_)) => (Change::Removal, Since::Deletion),
            (_, Some(false)) if state.ready && state.deletion.is_none() => (Change::Addition, Since::Ready),
            _ => return,
        };
        self.follow(at, state, sign);
    }

    pub(super) fn pod_gone(&mut self, at: Ktime, uid: &PodUid) {
        let missed_since = self.blind.late(PODS);
        let untold = self.pods.gone(at, uid, missed_since);
        let deleted = self.deleted(at, uid);
        match untold {
            // It may have been told to go while the watch was interrupted.
            Some(state) if missed_since.is_some() => {
                self.rollouts.pod_changed(at, &state, PodChange::Deleted, deleted);
            }
            Some(forced) => {
                self.rollouts.pod_forced(at, &forced);
                self.follow(at, &forced, (Change::Removal, Since::Deletion));
            }
            None => {}
        }
        self.rollouts.pod_gone(at, uid);
    }

    fn told_late(&self, at: Ktime, uid: &PodUid) -> bool {
        self.pods.get(uid).is_some_and(|p| p.deletion_late == Some(at))
    }

    /// When a pod was told to go of which the watch says so at `at`.
    fn deleted(&self, at: Ktime, uid: &PodUid) -> Ktime {
        self.pods.get(uid).and_then(|p| p.deletion_seen).unwrap_or(at)
    }

    fn follow(&mut self, at: Ktime, state: &PodState, (change, since): (Change, Since)) {
        let followed = Followed {
            pod: state.pod.clone(),
            workload: state.workload.clone(),
            node: None,
            ips: state.ips.clone(),
            since,
            at,
        };
        self.propagations.begin(&state.uid, change, followed);
    }

    /// Pods of other nodes are known from their slices alone.
    pub(super) fn told(&mut self, at: Ktime, all: &[News]) {
        for news in all {
            let own = self.start.as_ref().map(|(_, s)| s.node.as_str());
            let Some(node) = news.node.as_deref().filter(|n| own.is_some_and(|own| own != *n)) else {
                continue;
            };
            let change = match news.told {
                Told::Ready => Change::Addition,
                Told::Ending => Change::Removal,
                Told::Removed => {
                    self.rollouts.gone_elsewhere(at, &news.uid);
                    continue;
                }
            };
            if change == Change::Removal {
                let elsewhere = Elsewhere {
                    uid: &news.uid,
                    pod: &news.pod,
                };
                self.rollouts.ending_elsewhere(at, &elsewhere);
            }
            if self.blind.late(SLICES).is_some() {
                continue;
            }
            let followed = Followed {
                pod: news.pod.clone(),
                workload: self.rollouts.workload(&news.uid, &news.pod),
                node: Some(node.to_owned()),
                ips: vec![news.ip],
                since: Since::Slice,
                at,
            };
            self.propagations.begin(&news.uid, change, followed);
        }
    }

    /// This node sent a new connection on, and its rules lead there: an old entry of conntrack would have taken it there after
    /// they had let go.
    pub(super) fn connected(&mut self, sent: Sent) {
        if self.led(&sent) {
            self.endpoints.connected(sent.server, sent.at);
        } else {
            self.early.keep(sent);
        }
    }

    /// What the rules turn out to have led to all along.
    pub(super) fn rules_applied(&mut self, at: Ktime, rules: &RulesState) {
        self.routes.applied(at, rules);
        if rules.change.added.is_empty() {
            return;
        }
        for sent in self.early.take() {
            self.connected(sent);
        }
    }

    fn led(&self, sent: &Sent) -> bool {
        self.routes.routed(Protocol::Tcp, sent.server, sent.at) == Some(true)
    }

    /// The same of a connection that failed: this node sent it if it has the client's socket, or translated it. Where the rules
    /// are not known, the attempt that left such an entry has been judged by now.
    pub(super) fn failed_to_connect(&mut self, flow: &Flow) {
        let here = flow.outside || flow.client_end.is_some();
        let exact = flow.protocol == Protocol::Tcp && flow.began_within_ms == 0;
        let (Some(dialled), Some(server)) = (flow.dialled(), flow.server_addr()) else {
            return;
        };
        let at = flow.began;
        let by_rules = self.routes.routed(Protocol::Tcp, server, at) != Some(false) && flow.left.is_none();
        if here && exact && by_rules && dialled != server && flow.failed_to_connect() {
            self.endpoints.connected(server, at);
        }
    }
}
