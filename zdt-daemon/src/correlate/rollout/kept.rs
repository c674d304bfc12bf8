//! How many rollouts are kept, and how many pods of one.

use std::collections::BTreeMap;

use super::{Belongs, Key, ReplicaSets, Rollout, Rollouts};
use crate::{
    correlate::{bound::Cost, passed::Oldest},
    input::{Ktime, PodUid},
};

/// Most pods that ended in one rollout: a controller that makes pods without end never comes to rest.
const MAX_MEMBERS: usize = 16_384;

impl Rollouts {
    /// At most `max` under way and as many remembered.
    pub(in crate::correlate) fn new(max: usize) -> Self {
        Self {
            open: BTreeMap::new(),
            closed: Vec::new(),
            revisions: BTreeMap::new(),
            replica_sets: ReplicaSets::new(max),
            oldest_closed: Oldest::default(),
            workload_of: Belongs::default(),
            max,
            cost: Cost::default(),
        }
    }

    pub(in crate::correlate) fn len(&self) -> usize {
        self.open.len() + self.closed.len()
    }

    /// The workload's rollout under way, or a new one; the one in which nothing has happened for longest gives way.
    pub(super) fn open(&mut self, at: Ktime, key: &Key) -> &mut Rollout {
        if self.open.len() >= self.max && !self.open.contains_key(key) {
            let oldest = self.open.iter().min_by_key(|(key, r)| (r.last, *key));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                if let Some(oldest) = self.open.remove(&oldest) {
                    self.workload_of.forgotten(&oldest);
                }
                self.cost.one();
            }
        }
        let rollout = self.open.entry(key.clone()).or_insert_with(|| Rollout::new(at));
        rollout.touch(at);
        rollout
    }

    pub(super) fn close(&mut self, key: Key, rollout: Rollout) {
        if self.closed.len() >= self.max {
            let (_, oldest) = self.closed.remove(0);
            self.workload_of.forgotten(&oldest);
            self.cost.one();
        }
        self.keep(key, rollout);
    }

    pub(super) fn keep(&mut self, key: Key, rollout: Rollout) {
        self.oldest_closed.note(rollout.last);
        self.closed.push((key, rollout));
    }

    /// Whether one more pod of this rollout can be remembered.
    pub(super) fn has_room(&mut self, key: &Key, uid: &PodUid) -> bool {
        let full = self
            .open
            .get(key)
            .is_some_and(|r| r.member(uid).is_none() && r.members.len() + r.elsewhere.len() >= MAX_MEMBERS);
        if full {
            self.cost.one();
        }
        !full
    }
}
