//! Whether a rollout brought a pod, and which kind of rollout.

use super::{Rollout, Rollouts};
use crate::{
    correlate::revisions::FRESH_MS,
    input::{Ktime, PodState},
    verdict::Trigger,
};

impl Rollouts {
    /// Since when a rollout to this pod's template had been going at `at`, when it had and was not long over.
    pub(in crate::correlate) fn brought(&self, pod: &PodState, at: Ktime) -> Option<Ktime> {
        let workload = pod.workload.as_ref()?;
        let key = (pod.pod.namespace.clone(), workload.clone());
        let hash = pod.template_hash.as_deref();
        let closed = self
            .closed
            .iter()
            .rev()
            .filter(|(k, _)| *k == key)
            .map(|(_, r)| r);
        let brings = |r: &&Rollout| {
            hash.is_some()
                && r.to.as_deref() == hash
                && r.began <= at
                && at <= r.last_pod_change.plus_ms(FRESH_MS)
        };
        let own = self
            .open
            .get(&key)
            .into_iter()
            .chain(closed)
            .find(brings)
            .map(|r| r.began);
        // The old pods may all live on other nodes.
        own.or_else(|| self.replica_sets.brought(&pod.pod.namespace, workload, hash, at))
    }

    /// Of a pod that was brought: by what.
    pub(in crate::correlate) fn brought_by(&self, pod: &PodState) -> Trigger {
        let of = |workload| {
            self.replica_sets
                .brings(&pod.pod.namespace, workload, pod.template_hash.as_deref())
        };
        pod.workload.as_ref().map(of).unwrap_or_default()
    }
}
