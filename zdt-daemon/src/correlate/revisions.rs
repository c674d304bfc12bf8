//! ReplicaSets over time: which revision a template hash is, and what their numbers of replicas say about who ends a pod.

use std::collections::BTreeMap;

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
}

/// Some time from `from` to `at`: when this daemon heard of it, which is late where the watch had been interrupted.
#[derive(Clone, Copy, Debug)]
struct Changed {
    from: Ktime,
    at: Ktime,
}

#[derive(Debug, Default)]
pub(super) struct Revisions {
    all: BTreeMap<NsName, Replicas>,
    /// What the first watch delivered had been there before.
    since: Option<Ktime>,
}

impl Revisions {
    /// `since`: when the inputs began.
    pub(super) fn started(&mut self, since: Ktime) {
        self.since.get_or_insert(since);
    }

    pub(super) fn applied(&mut self, at: Ktime, state: &ReplicaSetState, missed_since: Option<Ktime>) {
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
            });
        match state.replicas.cmp(&rs.state.replicas) {
            std::cmp::Ordering::Greater => rs.grown = Some(changed),
            std::cmp::Ordering::Less => rs.shrunk = Some(changed),
            std::cmp::Ordering::Equal => {}
        }
        rs.state = state.clone();
    }

    pub(super) fn gone(&mut self, name: &NsName) {
        self.all.remove(name);
    }

    /// Revision of a template hash in a namespace.
    pub(super) fn number(&self, namespace: &str, hash: &str) -> Option<u64> {
        let mut all = self.all.values().map(|r| &r.state);
        all.find(|s| s.replica_set.namespace == namespace && s.template_hash.as_deref() == Some(hash))?
            .revision
    }

    /// The owner of a pod of which only the name is known, and its template: a ReplicaSet's pods are named after it
    /// (`web-5895c69847-x2x4b`; names.go SimpleNameGenerator adds five characters).
    pub(super) fn owner(&self, pod: &NsName) -> Option<(Workload, Option<String>)> {
        let (name, _) = pod.name.rsplit_once('-')?;
        let rs = self.all.get(&NsName {
            namespace: pod.namespace.clone(),
            name: name.to_owned(),
        })?;
        let (kind, name) = match &rs.state.deployment {
            Some(deployment) => ("deployment", deployment),
            None => ("replicaset", &rs.state.replica_set.name),
        };
        let workload = Workload {
            kind: kind.to_owned(),
            name: name.clone(),
        };
        Some((workload, rs.state.template_hash.clone()))
    }

    /// Who ended a pod of this template that was deleted at `deleted`. None: its ReplicaSet is not known.
    pub(super) fn trigger(
        &self,
        namespace: &str,
        workload: &Workload,
        hash: Option<&str>,
        deleted: Ktime,
    ) -> Option<Trigger> {
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
        replaced.then_some(own.seen.max(grown.minus_ms(FRESH_MS)))
    }

    fn own(&self, namespace: &str, workload: &Workload, hash: Option<&str>) -> Option<&Replicas> {
        let mut all = self
            .all
            .values()
            .filter(|r| r.state.replica_set.namespace == namespace);
        match workload.kind.as_str() {
            "deployment" => all.find(|r| {
                r.state.deployment.as_ref() == Some(&workload.name)
                    && hash.is_some()
                    && r.state.template_hash.as_deref() == hash
            }),
            "replicaset" => all.find(|r| r.state.replica_set.name == workload.name),
            _ => None,
        }
    }

    fn siblings<'a>(&'a self, own: &'a Replicas) -> impl Iterator<Item = &'a Replicas> {
        self.all.values().filter(|r| {
            own.state.deployment.is_some()
                && r.state.deployment == own.state.deployment
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
