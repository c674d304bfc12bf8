//! Rollouts: which pods of which workload ended together, who started it, and the sum of what it broke.

mod belongs;
mod brought;
mod kept;
mod one;
mod summary;
mod under_way;

use std::{collections::BTreeMap, mem::take};

use self::{
    belongs::Belongs,
    one::{MAX_SAMPLES, Member, Rollout},
};
use super::{
    bound::Cost,
    endpoints::Endpoints,
    loss::Losses,
    passed::Oldest,
    pods::{PodChange, Pods},
    propagation::Propagations,
    revisions::{Revisions as ReplicaSets, disrupted},
    routes::Routes,
};
use crate::{
    input::{Ktime, NsName, PodState, PodUid, ReplicaSetState, Start, Wall, Workload},
    verdict::{Blame, Output, Trigger, Verdict},
};

/// A rollout in which nothing has happened for so long is stuck, milliseconds (progressDeadlineSeconds, 600 by default).
const PROGRESS_MS: u64 = 600_000;

/// Evictions of several pods of one node within this time are its drain: it evicts all at once, and again every 5 s those
/// that a budget holds back (kubectl drain); a choice with room for slow budgets.
const DRAIN_MS: f64 = 60_000.0;

/// Namespace and workload.
type Key = (String, Workload);

/// What is known of one workload besides its rollouts.
#[derive(Debug, Default)]
struct Revisions {
    /// Creation time and template hash of the newest pod.
    newest: Option<(Option<Wall>, Option<String>)>,
    /// Pods by hash that were first seen, with when.
    first_seen: Vec<(Ktime, Option<String>)>,
}

/// What summing up may look at.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub now: Ktime,
    pub start: Option<&'a (Ktime, Start)>,
    pub pods: &'a Pods,
    pub endpoints: &'a Endpoints,
    pub routes: &'a Routes,
    pub losses: &'a Losses,
}

/// A pod of another node, as the endpoint slices tell of it.
pub(super) struct Elsewhere<'a> {
    pub uid: &'a PodUid,
    pub pod: &'a NsName,
}

#[derive(Debug)]
pub(super) struct Rollouts {
    /// Under way: at most one of a workload.
    open: BTreeMap<Key, Rollout>,
    /// Summed up at least once. A late verdict still counts here and sums it up again; a later deletion opens a new one.
    closed: Vec<(Key, Rollout)>,
    revisions: BTreeMap<Key, Revisions>,
    replica_sets: ReplicaSets,
    /// By when anything last happened to them.
    oldest_closed: Oldest,
    workload_of: Belongs,
    max: usize,
    pub(super) cost: Cost,
}

impl Rollouts {
    pub(super) fn started(&mut self, at: Ktime) {
        self.replica_sets.started(at);
    }

    /// `missed_since`: the watch had been interrupted then.
    pub(super) fn replica_set(&mut self, at: Ktime, rs: &ReplicaSetState, missed_since: Option<Ktime>) {
        self.replica_sets.applied(at, rs, missed_since);
    }

    pub(super) fn replica_set_gone(&mut self, at: Ktime, name: &NsName, missed_since: Option<Ktime>) {
        self.replica_sets.gone(name, missed_since.unwrap_or(at));
    }

    /// `deleted`: when it was, if it was.
    pub(super) fn pod_changed(&mut self, at: Ktime, state: &PodState, change: PodChange, deleted: Ktime) {
        let Some(workload) = &state.workload else { return };
        let key = (state.pod.namespace.clone(), workload.clone());
        self.workload_of.put(&state.uid, &key);
        let revisions = self.revisions.entry(key.clone()).or_default();
        if change == PodChange::New {
            revisions.first_seen.push((at, state.template_hash.clone()));
            if revisions.first_seen.len() > MAX_SAMPLES {
                revisions.first_seen.remove(0);
            }
            let newer = revisions
                .newest
                .as_ref()
                .is_none_or(|(created, _)| *created <= state.created);
            if newer && state.deletion.is_none() {
                let before = revisions
                    .newest
                    .replace((state.created, state.template_hash.clone()));
                if let Some((_, hash)) = before.filter(|(_, hash)| *hash != state.template_hash) {
                    // The first pod of a new template: a rolling update begins, before it deletes anything.
                    let rollout = self.open(at, &key);
                    rollout.from = hash;
                    rollout.to.clone_from(&state.template_hash);
                }
            }
        }
        if change == PodChange::Deleted {
            if !self.has_room(&key, &state.uid) {
                return;
            }
            let rollout = self.open(at, &key);
            let member = rollout.members.entry(state.uid.clone()).or_default();
            member.hash.clone_from(&state.template_hash);
            member.deleted = Some(deleted);
            member.forced = state.deletion.is_some_and(|d| d.grace_s == 0);
            member.disrupted = disrupted(state.disruption.as_deref(), state.reason.as_deref());
            if rollout.from.is_none() {
                rollout.from.clone_from(&state.template_hash);
            }
        } else if let Some(rollout) = self.open.get_mut(&key) {
            rollout.touch(at);
        }
    }

    pub(super) fn pod_gone(&mut self, at: Ktime, uid: &PodUid) {
        let Some(rollout) = self.workload_of.get(uid).and_then(|k| self.open.get_mut(k)) else {
            return;
        };
        rollout.touch(at);
        if let Some(member) = rollout.members.get_mut(uid) {
            member.gone = Some(at);
            member.deleted.get_or_insert(at);
        }
    }

    /// Whose pod it is, as far as this node knows.
    pub(super) fn workload(&self, uid: &PodUid, pod: &NsName) -> Option<Workload> {
        let known = self.workload_of.get(uid).map(|(_, workload)| workload.clone());
        known.or_else(|| Some(self.replica_sets.owner(pod)?.0))
    }

    /// A pod of another node is terminating: it is part of the same rollout as this node's.
    pub(super) fn ending_elsewhere(&mut self, at: Ktime, elsewhere: &Elsewhere<'_>) {
        let Some((workload, hash)) = self.replica_sets.owner(elsewhere.pod) else {
            return;
        };
        let key = (elsewhere.pod.namespace.clone(), workload);
        if !self.has_room(&key, elsewhere.uid) {
            return;
        }
        self.workload_of.put(elsewhere.uid, &key);
        let rollout = self.open(at, &key);
        if rollout.from.is_none() {
            rollout.from.clone_from(&hash);
        }
        let new = !rollout.elsewhere.contains_key(elsewhere.uid);
        let member = rollout.elsewhere.entry(elsewhere.uid.clone()).or_default();
        member.hash = hash;
        member.deleted = Some(at);
        if new {
            self.workload_of.remembered(elsewhere.uid);
        }
    }

    /// A pod of another node is in no slice any more.
    pub(super) fn gone_elsewhere(&mut self, at: Ktime, uid: &PodUid) {
        let rollout = self.workload_of.get(uid).and_then(|k| self.open.get_mut(k));
        if let Some(rollout) = rollout.filter(|r| r.elsewhere.contains_key(uid)) {
            rollout.touch(at);
            if let Some(member) = rollout.elsewhere.get_mut(uid) {
                member.gone = Some(at);
            }
        }
    }

    /// A pod's object is gone that had never been told to go.
    pub(super) fn pod_forced(&mut self, at: Ktime, state: &PodState) {
        self.pod_changed(at, state, PodChange::Deleted, at);
        let rollout = self
            .workload_of
            .get(&state.uid)
            .and_then(|k| self.open.get_mut(k));
        if let Some(member) = rollout.and_then(|r| r.members.get_mut(&state.uid)) {
            member.forced = true;
        }
    }

    /// Who started the end of this pod.
    pub(super) fn trigger(&self, uid: &PodUid) -> Trigger {
        let Some(key) = self.workload_of.get(uid) else {
            return Trigger::None;
        };
        let closed = self.closed.iter().rev().filter(|(k, _)| k == key).map(|(_, r)| r);
        let mut all = self.open.get(key).into_iter().chain(closed);
        let Some(member) = all.find_map(|r| r.member(uid)) else {
            return Trigger::None;
        };
        self.member_trigger(key, member)
    }

    /// The Eviction API took another pod of this node, too, at about the time of this one.
    fn several_drained(&self, member: &Member) -> bool {
        let deleted = member.deleted.unwrap_or_default();
        let near = |m: &&Member| {
            let apart = m.deleted.unwrap_or_default().ms_since(deleted).abs();
            m.disrupted == Some(Trigger::Drain) && apart <= DRAIN_MS
        };
        let rollouts = self.open.values().chain(self.closed.iter().map(|(_, r)| r));
        rollouts.flat_map(|r| r.members.values()).filter(near).count() > 1
    }

    fn member_trigger(&self, key: &Key, member: &Member) -> Trigger {
        match member.disrupted {
            // The same API serves whoever wants one pod gone; draining a node empties it.
            Some(Trigger::Drain) if !self.several_drained(member) => return Trigger::Eviction,
            Some(trigger) => return trigger,
            None => {}
        }
        if member.forced {
            return Trigger::ForceDelete;
        }
        let deleted = member.deleted.unwrap_or_default();
        let by_replicas = self
            .replica_sets
            .trigger(&key.0, &key.1, member.hash.as_deref(), deleted);
        if let Some(trigger) = by_replicas {
            return trigger;
        }
        let Some(revisions) = self.revisions.get(key) else {
            return Trigger::Delete;
        };
        if revisions
            .newest
            .as_ref()
            .is_some_and(|(_, hash)| *hash != member.hash)
        {
            return Trigger::RollingUpdate;
        }
        // A replacement of the same template says that the pod was deleted; none says that fewer were wanted.
        let replaced = revisions
            .first_seen
            .iter()
            .any(|(at, hash)| *at > deleted && *hash == member.hash);
        if replaced || key.1.kind == "pod" {
            Trigger::Delete
        } else {
            Trigger::ScaleDown
        }
    }

    /// Counts a verdict in the rollout that its pod (or else its service's namespace) is part of.
    pub(super) fn verdict(&mut self, now: Ktime, verdict: &Verdict) {
        if verdict.blame == Blame::NotARequest {
            return;
        }
        let rollout = match &verdict.pod {
            Some(pod) => {
                let Some(key) = self.workload_of.get(&pod.uid) else {
                    return;
                };
                let own = |r: &Rollout| r.member(&pod.uid).is_some();
                let late = self
                    .closed
                    .iter_mut()
                    .rev()
                    .find(|(k, r)| k == key && own(r))
                    .map(|(_, r)| r);
                late.or_else(|| self.open.get_mut(key))
            }
            None => {
                // Of no pod and no service, as a port scan: nobody's.
                let Some(service) = &verdict.service else { return };
                let mut open = self.open.iter_mut();
                open.find(|(k, _)| service.namespace == k.0).map(|(_, r)| r)
            }
        };
        if let Some(rollout) = rollout {
            rollout.last = now;
            rollout.reported = false;
            rollout.count(verdict);
        }
    }

    /// Sums up the rollouts in which nothing happens any more.
    pub(super) fn report_quiet(
        &mut self,
        known: &Known<'_>,
        propagations: &Propagations,
        quiet_ms: u64,
        out: &mut Vec<Output>,
    ) {
        self.report(known, propagations, out, |key, newest, r| {
            if r.last.plus_ms(quiet_ms) > known.now {
                return false;
            }
            let ended = r
                .members
                .values()
                .chain(r.elsewhere.values())
                .all(|m| m.gone.is_some());
            // Slow pods: between the end of one old pod and the next, nothing may happen for minutes.
            let stuck = r.last.plus_ms(PROGRESS_MS) <= known.now;
            let goes_on = || !stuck && known.pods.older_lives(&key.0, &key.1, newest);
            ended && !goes_on()
        });
    }

    /// Sums up every rollout that has news.
    pub(super) fn report_all(
        &mut self,
        known: &Known<'_>,
        propagations: &Propagations,
        out: &mut Vec<Output>,
    ) {
        self.report(known, propagations, out, |_, _, _| true);
    }

    fn report(
        &mut self,
        known: &Known<'_>,
        propagations: &Propagations,
        out: &mut Vec<Output>,
        ready: impl Fn(&Key, Option<&str>, &Rollout) -> bool,
    ) {
        let newest = |revisions: &BTreeMap<Key, Revisions>, key: &Key| {
            let newest = revisions.get(key).and_then(|r| r.newest.clone());
            newest.and_then(|(_, hash)| hash)
        };
        let done: Vec<Key> = self
            .open
            .iter()
            .filter(|(k, r)| ready(k, newest(&self.revisions, k).as_deref(), r))
            .map(|(k, _)| k.clone())
            .collect();
        for key in done {
            if let Some(rollout) = self.open.remove(&key) {
                self.close(key, rollout);
            }
        }
        let mut closed = take(&mut self.closed);
        for (key, rollout) in &mut closed {
            if rollout.has_news() && ready(key, newest(&self.revisions, key).as_deref(), rollout) {
                let summary = self.summary(key, rollout, known, propagations);
                out.push(Output::Rollout(Box::new(summary)));
                rollout.reported = true;
            }
        }
        self.closed = closed;
    }

    /// Whether one is under way, or is to be summed up.
    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty() || self.closed.iter().any(|(_, rollout)| rollout.has_news())
    }

    /// `gone`: pods that are not remembered any more.
    pub(super) fn forget(&mut self, before: Ktime, gone: Vec<PodUid>, pods: &Pods) {
        self.replica_sets.forget(before);
        if self.oldest_closed.take(before) {
            for (key, rollout) in take(&mut self.closed) {
                if rollout.last >= before {
                    self.keep(key, rollout);
                } else {
                    self.workload_of.forgotten(&rollout);
                }
            }
        }
        // What a workload remembers goes with its last pod.
        for key in self.workload_of.forget(gone, pods) {
            self.revisions.remove(&key);
        }
    }
}
