//! ReplicaSets that were deleted together with the Deployment that owned them, or by hand.

use std::collections::BTreeMap;

use super::{LATE_MS, Replicas, Revisions, is_of};
use crate::{
    correlate::passed::Oldest,
    input::{Ktime, NsName, ReplicaSetState, Workload},
    verdict::Trigger,
};

/// One that should have had replicas when it was deleted. A Deployment deletes only those of its own that shall have none
/// (pkg/controller/deployment/sync.go cleanupDeployment), so somebody else did: the garbage collector, since its owner is
/// gone, or a person.
#[derive(Debug)]
struct Gone {
    state: ReplicaSetState,
    /// From then on nothing but the garbage collector cared for its pods.
    since: Ktime,
}

/// The last of each name, and since when the oldest is gone.
#[derive(Debug, Default)]
pub(super) struct AllGone(BTreeMap<NsName, Gone>, Oldest);

impl AllGone {
    /// `at`: when it was gone, or was told to go.
    pub(super) fn add(&mut self, replicas: Replicas, at: Ktime, max: usize) {
        let state = replicas.state;
        if state.replicas > 0 && (self.0.len() < max || self.0.contains_key(&state.replica_set)) {
            let since = replicas.ending.unwrap_or(at).min(at);
            self.1.note(since);
            self.0.insert(state.replica_set.clone(), Gone { state, since });
        }
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        if self.1.take(before) {
            self.0.retain(|_, gone| gone.since >= before);
            self.0.values().for_each(|gone| self.1.note(gone.since));
        }
    }

    pub(super) fn get(&self, name: &NsName) -> Option<&ReplicaSetState> {
        self.0.get(name).map(|gone| &gone.state)
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &ReplicaSetState> {
        self.0.values().map(|gone| &gone.state)
    }
}

impl Revisions {
    /// Who ended a pod of this template that was deleted at `deleted`, where its ReplicaSet was deleted as well, and first.
    pub(super) fn with_its_owner(
        &self,
        namespace: &str,
        workload: &Workload,
        hash: Option<&str>,
        deleted: Ktime,
    ) -> Option<Trigger> {
        let first = |since: Ktime| since <= deleted.plus_ms(LATE_MS);
        let own = self.own(namespace, workload, hash);
        if own.is_some_and(|own| own.ending.is_some_and(first)) {
            return Some(Trigger::Delete);
        }
        // One of the same name that is there by now is another one; its own pods are deleted later.
        let before = |gone: &&Gone| own.is_none_or(|own| deleted < own.seen && gone.since <= own.seen);
        let mut all = self.gone.0.values();
        let gone = all.find(|g| {
            g.state.replica_set.namespace == namespace
                && is_of(workload, hash, &g.state)
                && first(g.since)
                && before(g)
        })?;
        Some(if self.all.values().any(|r| is_anew(gone, r)) {
            Trigger::DeleteAndCreate
        } else {
            Trigger::Delete
        })
    }

    /// Its Deployment had been deleted, and was created again under its name.
    pub(super) fn anew(&self, own: &Replicas) -> bool {
        self.gone.0.values().any(|gone| is_anew(gone, own))
    }
}

/// It has an owner of the same name that is another object.
fn is_anew(gone: &Gone, other: &Replicas) -> bool {
    let (was, is) = (&gone.state, &other.state);
    let uids = was.owner_uid.as_ref().zip(is.owner_uid.as_ref());
    was.deployment.is_some()
        && (&was.deployment, &was.kind) == (&is.deployment, &is.kind)
        && was.replica_set.namespace == is.replica_set.namespace
        && uids.is_some_and(|(was, is)| was != is)
}
