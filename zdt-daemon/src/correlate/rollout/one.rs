//! One rollout: the pods that ended in it, and what it broke.

use std::collections::BTreeMap;

use crate::{
    causes::Sample,
    input::{Ktime, PodUid},
    verdict::{Blame, Trigger, Verdict},
};

/// Most samples kept of one rollout; further ones are counted only.
pub(super) const MAX_SAMPLES: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Member {
    pub hash: Option<String>,
    pub deleted: Option<Ktime>,
    pub gone: Option<Ktime>,
    /// Who ended it, as its own status says.
    pub disrupted: Option<Trigger>,
    /// Removed at once, not told to go first.
    pub forced: bool,
}

#[derive(Debug)]
pub(super) struct Rollout {
    pub began: Ktime,
    pub last_pod_change: Ktime,
    pub last: Ktime,
    pub from: Option<String>,
    /// The template that it brings, once a pod of it is there.
    pub to: Option<String>,
    pub members: BTreeMap<PodUid, Member>,
    /// Pods of other nodes that ended in it.
    pub elsewhere: BTreeMap<PodUid, Member>,
    pub samples: Vec<Sample>,
    pub counts: BTreeMap<&'static str, usize>,
    pub unexplained: usize,
    pub not_the_rollout: usize,
    /// Summed up, and nothing new since.
    pub reported: bool,
}

impl Rollout {
    pub(super) fn new(began: Ktime) -> Self {
        Self {
            began,
            last_pod_change: began,
            last: began,
            from: None,
            to: None,
            members: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            samples: Vec::new(),
            counts: BTreeMap::new(),
            unexplained: 0,
            not_the_rollout: 0,
            reported: false,
        }
    }

    pub(super) fn touch(&mut self, at: Ktime) {
        self.last = self.last.max(at);
        self.last_pod_change = self.last_pod_change.max(at);
    }

    /// A pod that ended in it, wherever it was.
    pub(super) fn member(&self, uid: &PodUid) -> Option<&Member> {
        self.members.get(uid).or_else(|| self.elsewhere.get(uid))
    }

    /// Failures that are its, or unexplained.
    pub(super) fn failed(&self) -> usize {
        self.counts.values().sum::<usize>() + self.unexplained
    }

    /// It is to be summed up, now or again. What ends on other nodes and fails nothing here is theirs to sum up.
    pub(super) fn has_news(&self) -> bool {
        !self.reported && (!self.members.is_empty() || self.failed() > 0)
    }

    pub(super) fn count(&mut self, verdict: &Verdict) {
        match verdict.blame {
            Blame::Rollout => {
                *self.counts.entry(verdict.cause()).or_default() += 1;
                if self.samples.len() < MAX_SAMPLES {
                    self.samples.push(Sample::of(verdict));
                }
            }
            Blame::Unknown => self.unexplained += 1,
            Blame::NotTheRollout => self.not_the_rollout += 1,
            Blame::NotARequest => {}
        }
    }
}
