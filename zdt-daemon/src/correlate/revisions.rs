//! ReplicaSets over time: which revision a template hash is, and what their numbers of replicas say about who ends a pod.

mod gone;

use std::collections::BTreeMap;

use self::gone::AllGone;
use crate::{
    input::{Ktime, NsName, ReplicaSetState, Workload},
    verdict::Trigger,
};

/// How long before a pod's deletion its ReplicaSet may have been told to shrink. Its controller deletes at once
/// (pkg/controller/replicaset/replica_set.go manageReplicas), in batches of at most 500; a choice with room for a busy one.
const SHRINKS_MS: u64 = 10_000;

/// The two watches are not in step: the ReplicaSet's change may come this much later than the pod's.
const LATE_MS: u64 = 2_000;

/// A rollout that is over for so long has no part in a pod's crash: the time that a Deployment gives itself to progress
/// (progressDeadlineSeconds, 600 by default).
pub(super) const FRESH_MS: u64 = 600_000;

#[derive(Debug)]
struct Replicas {
    state: ReplicaSetState,
    /// When this daemon first heard of it, or would have, had the watch not been interrupted.
    seen: Ktime,
    grown: Option<Changed>,
    shrunk: Option<Changed>,
    /// When this daemon heard that it was told to go, and waits for its pods to be gone first.
    ending: Option<Ktime>,
}

/// Some time from `from` to `at`: when this daemon heard of it, which is late where the watch had been interrupted.
#[derive(Clone, Copy, Debug)]
struct Changed {
    from: Ktime,
    at: Ktime,
}

#[derive(Debug)]
pub(super) struct Revisions {
    all: BTreeMap<NsName, Replicas>,
    gone: AllGone,
    /// Most kept; a pod of one more is named without its revision.
    max: usize,
    /// What the first watch delivered had been there before.
    since: Option<Ktime>,
}

impl Revisions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            gone: AllGone::default(),
            max,
            since: None,
        }
    }

    /// `since`: when the inputs began.
    pub(super) fn started(&mut self, since: Ktime) {
        self.since.get_or_insert(since);
    }

    pub(super) fn applied(&mut self, at: Ktime, state: &ReplicaSetState, missed_since: Option<Ktime>) {
        if self.all.len() >= self.max && !self.all.contains_key(&state.replica_set) {
            return;
        }
        let changed = Changed {
            from: missed_since.unwrap_or(at),
            at,
        };
        let rs = self
            .all
            .entry(state.replica_set.clone())
            .or_insert_with(|| Replicas {
                state: ReplicaSetState {
                    replicas: 0,
                    ..state.clone()
                },
                seen: changed.from,
                grown: None,
                shrunk: None,
                ending: None,
            });
        if state.ending {
            rs.ending.get_or_insert(changed.from);
        }
        match state.replicas.cmp(&rs.state.replicas) {
            std::cmp::Ordering::Greater => rs.grown = Some(changed),
            std::cmp::Ordering::Less => rs.shrunk = Some(changed),
            std::cmp::Ordering::Equal => {}
        }
        rs.state = state.clone();
    }

    /// `at`: when this daemon heard of it, or began to hear nothing.
    pub(super) fn gone(&mut self, name: &NsName, at: Ktime) {
        if let Some(replicas) = self.all.remove(name) {
            self.gone.add(replicas, at, self.max);
        }
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        self.gone.forget(before);
    }

    /// Revision of a template hash in a namespace.
    pub(super) fn number(&self, namespace: &str, hash: &str) -> Option<u64> {
        let mut all = self.all.values().map(|r| &r.state).chain(self.gone.states());
        all.find(|s| s.replica_set.namespace == namespace && s.template_hash.as_deref() == Some(hash))?
            .revision
    }

    /// The owner of a pod of which only the name is known, and its template: a ReplicaSet's pods are named after it
    /// (`web-5895c69847-x2x4b`; names.go SimpleNameGenerator adds five characters).
    pub(super) fn owner(&self, pod: &NsName) -> Option<(Workload, Option<String>)> {
        let (name, _) = pod.name.rsplit_once('-')?;
        let name = NsName {
            namespace: pod.namespace.clone(),
            name: name.to_owned(),
        };
        let lives = self.all.get(&name).map(|rs| &rs.state);
        let rs = lives.or_else(|| self.gone.get(&name))?;
        let (kind, name) = match &rs.deployment {
            Some(deployment) => (rs.kind.as_deref().unwrap_or("deployment"), deployment),
            None => ("replicaset", &rs.replica_set.name),
        };
        let workload = Workload {
            kind: kind.to_owned(),
            name: name.clone(),
        };
        Some((workload, rs.template_hash.clone()))
    }

    /// Who ended a pod of this template that was deleted at `deleted`. None: its ReplicaSet is not known.
    pub(super) fn trigger(
        &self,
        namespace: &str,
        workload: &Workload,
        hash: Option<&str>,
        deleted: Ktime,
    ) -> Option<Trigger> {
        if let Some(with_its_owner) = self.with_its_owner(namespace, workload, hash, deleted) {
            return Some(with_its_owner);
        }
        let own = self.own(namespace, workload, hash)?;
        if let Some(newer) = self.newer(own) {
            // A rolling update makes the new ReplicaSet before it shrinks the old one; Recreate waits until the old
            // pods are gone (pkg/controller/deployment/{rolling,recreate}.go).
            let before = |shrunk: Changed| shrunk.at < newer.seen && shrunk.from == shrunk.at;
            let waited = own.shrunk.is_some_and(before) && self.since < Some(newer.seen);
            return Some(if waited && own.state.replicas == 0 {
                Trigger::Recreate
            } else {
                Trigger::RollingUpdate
            });
        }
        if own
            .state
            .desired
            .is_some_and(|desired| own.state.replicas < desired)
        {
            return Some(Trigger::Recreate);
        }
        let shrunk = own
            .shrunk
            .is_some_and(|s| deleted.minus_ms(SHRINKS_MS) <= s.at && s.from <= deleted.plus_ms(LATE_MS));
        Some(if shrunk {
            Trigger::ScaleDown
        } else {
            Trigger::Delete
        })
    }

    /// Since when a rollout to this template had been going at `at`: its ReplicaSet grew in place of another one.
    pub(super) fn brought(
        &self,
        namespace: &str,
        workload: &Workload,
        hash: Option<&str>,
        at: Ktime,
    ) -> Option<Ktime> {
        let own = self.own(namespace, workload, hash)?;
        let fresh = |t: Ktime| self.since < Some(t) && t <= at && at <= t.plus_ms(FRESH_MS);
        let grown = own.grown.map(|g| g.from).filter(|t| fresh(*t))?;
        if self.newer(own).is_some() {
            return None;
        }
        let replaced = self
            .siblings(own)
            .any(|r| r.state.replicas > 0 || r.shrunk.is_some_and(|s| own.seen <= s.at));
        (replaced || self.anew(own)).then_some(own.seen.max(grown.minus_ms(FRESH_MS)))
    }

    /// What brings pods of this template, where something does.
    pub(super) fn brings(&self, namespace: &str, workload: &Workload, hash: Option<&str>) -> Trigger {
        match self.own(namespace, workload, hash) {
            Some(own) if self.anew(own) => Trigger::DeleteAndCreate,
            _ => Trigger::RollingUpdate,
        }
    }

    /// Replicas that a Deployment's older ReplicaSets, and its newest, shall have. None: it has one template only, or is none.
    pub(super) fn wanted(&self, namespace: &str, workload: &Workload) -> Option<(u64, u64)> {
        let first = NsName {
            namespace: namespace.to_owned(),
            name: format!("{}-", workload.name),
        };
        let own = || {
            // They are named after it, so they stand side by side.
            let all = self.all.range(first.clone()..).map(|(_, r)| &r.state);
            let named = |s: &&ReplicaSetState| {
                s.replica_set.namespace == namespace && s.replica_set.name.starts_with(&first.name)
            };
            all.take_while(named).filter(|s| owns(workload, s))
        };
        let newest = own().max_by_key(|s| s.revision)?;
        let replicas = |s: &ReplicaSetState| u64::try_from(s.replicas).unwrap_or(0);
        let older = own().filter(|s| s.replica_set != newest.replica_set);
        (own().count() > 1).then(|| (older.map(replicas).sum(), replicas(newest)))
    }

    fn own(&self, namespace: &str, workload: &Workload, hash: Option<&str>) -> Option<&Replicas> {
        let mut all = self
            .all
            .values()
            .filter(|r| r.state.replica_set.namespace == namespace);
        all.find(|r| is_of(workload, hash, &r.state))
    }

    fn siblings<'a>(&'a self, own: &'a Replicas) -> impl Iterator<Item = &'a Replicas> {
        self.all.values().filter(|r| {
            own.state.deployment.is_some()
                && (&r.state.deployment, &r.state.kind) == (&own.state.deployment, &own.state.kind)
                && r.state.replica_set.namespace == own.state.replica_set.namespace
                && r.state.replica_set != own.state.replica_set
        })
    }

    fn newer<'a>(&'a self, own: &'a Replicas) -> Option<&'a Replicas> {
        self.siblings(own)
            .filter(|r| r.state.revision > own.state.revision)
            .max_by_key(|r| r.state.revision)
    }
}

/// Whether a ReplicaSet is this workload's, and of this template.
fn is_of(workload: &Workload, hash: Option<&str>, rs: &ReplicaSetState) -> bool {
    match workload.kind.as_str() {
        "deployment" | "rollout" => {
            owns(workload, rs) && hash.is_some() && rs.template_hash.as_deref() == hash
        }
        "replicaset" => rs.replica_set.name == workload.name,
        _ => false,
    }
}

/// Whether a ReplicaSet is this Deployment's (or Rollout's).
fn owns(workload: &Workload, rs: &ReplicaSetState) -> bool {
    rs.deployment.as_ref() == Some(&workload.name)
        && rs.kind.as_deref().unwrap_or("deployment") == workload.kind
}

/// Who ended a pod, as its own status says. None: its status says nothing, it is its controller that has to be asked.
pub(super) fn disrupted(disruption: Option<&str>, reason: Option<&str>) -> Option<Trigger> {
    // Reasons of the condition DisruptionTarget (KEP-3329), and status.reason where the kubelet ended the pod.
    let disruption = disruption.map(|d| d.strip_prefix("DisruptionTarget:").unwrap_or(d));
    let by_kubelet = disruption.is_none_or(|d| d == "TerminationByKubelet");
    if by_kubelet && matches!(reason, Some("Terminated" | "NodeShutdown")) {
        return Some(Trigger::NodeShutdown);
    }
    match disruption {
        Some("EvictionByEvictionAPI") => Some(Trigger::Drain),
        Some("PreemptionByScheduler" | "PreemptionByKubeScheduler") => Some(Trigger::Preemption),
        // DeletionByTaintManager, DeletionByPodGC, TerminationByKubelet for want of resources.
        Some(_) => Some(Trigger::Eviction),
        None => match reason? {
            "Evicted" => Some(Trigger::Eviction),
            "Preempting" => Some(Trigger::Preemption),
            _ => None,
        },
    }
}
