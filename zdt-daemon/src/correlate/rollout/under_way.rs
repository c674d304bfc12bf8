//! The rollouts that are not over, for those who look on.

use std::collections::BTreeSet;

use super::{Key, Known, Rollouts, one::Rollout};
use crate::{
    correlate::{Correlator, judge::wall, rollout},
    verdict::{PodCount, Revision, Trigger, UnderWay},
};

/// More of them are not told of: one that restarts a whole cluster sees this much of it.
const MOST: usize = 100;

impl Correlator {
    /// The rollouts that are not over, the newest first.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let known = rollout::Known {
            now: self.now,
            start: self.start.as_ref(),
            pods: &self.pods,
            endpoints: &self.endpoints,
            routes: &self.routes,
            losses: &self.losses,
        };
        self.rollouts.under_way(&known)
    }
}

impl Rollouts {
    fn under_way(&self, known: &Known<'_>) -> Vec<UnderWay> {
        let mut seen = BTreeSet::new();
        // Summed up here, while older replicas are still wanted: it goes on elsewhere. Only the last one of a workload.
        let last = self.closed.iter().rev().filter(|(key, _)| seen.insert(key));
        let goes_on = |(key, r): &&(Key, Rollout)| {
            let wanted = || self.replica_sets.wanted(&key.0, &key.1);
            r.to.is_some() && !self.open.contains_key(key) && wanted().is_some_and(|(old, _)| old > 0)
        };
        let closed = last.filter(goes_on).map(|(key, r)| (key, r, true));
        let open = self.open.iter().map(|(key, r)| (key, r, false));
        let mut all: Vec<(&Key, &Rollout, bool)> = open.chain(closed).collect();
        all.sort_by_key(|(_, r, _)| std::cmp::Reverse(r.began));
        all.truncate(MOST);
        let looked = all
            .into_iter()
            .map(|(key, r, over)| self.look(key, r, known, over));
        looked.collect()
    }

    fn look(&self, key: &Key, rollout: &Rollout, known: &Known<'_>, summed_up: bool) -> UnderWay {
        let newest = self.revisions.get(key).and_then(|r| r.newest.as_ref());
        let newest = newest.and_then(|(_, hash)| hash.clone());
        let revision = |hash: &Option<String>| {
            hash.as_ref().map(|hash| Revision {
                number: self.replica_sets.number(&key.0, hash),
                template_hash: hash.clone(),
            })
        };
        let members = rollout.members.values();
        let first = members.chain(rollout.elsewhere.values()).next();
        let trigger = match (first, &rollout.to) {
            (Some(member), _) => self.member_trigger(key, member),
            (None, to @ Some(_)) => self.replica_sets.brings(&key.0, &key.1, to.as_deref()),
            (None, None) => Trigger::None,
        };
        let wanted = self.replica_sets.wanted(&key.0, &key.1);
        let (old, new, new_ready) = known.pods.living(&key.0, &key.1, newest.as_deref());
        let mut causes: Vec<(String, usize)> = rollout
            .counts
            .iter()
            .map(|(cause, n)| ((*cause).to_owned(), *n))
            .collect();
        causes.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        UnderWay {
            node: known.start.map(|(_, s)| s.node.clone()).unwrap_or_default(),
            namespace: key.0.clone(),
            workload: key.1.clone(),
            trigger,
            from: revision(&rollout.from),
            to: revision(&rollout.to),
            began: rollout.began,
            wall: wall(known.start, rollout.began),
            here: PodCount {
                ended: rollout.members.len(),
                gone: rollout.members.values().filter(|m| m.gone.is_some()).count(),
                old,
                new,
                new_ready,
            },
            elsewhere: PodCount {
                ended: rollout.elsewhere.len(),
                gone: rollout.elsewhere.values().filter(|m| m.gone.is_some()).count(),
                ..PodCount::default()
            },
            old_wanted: wanted.map(|(old, _)| old),
            new_wanted: wanted.map(|(_, new)| new),
            failed: rollout.failed(),
            unexplained: rollout.unexplained,
            not_the_rollout: rollout.not_the_rollout,
            events_lost: known.losses.within(rollout.began, known.now),
            causes,
            summed_up,
        }
    }
}
