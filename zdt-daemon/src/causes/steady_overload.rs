//! X8: a pod did not accept connections as fast as they came, and no rollout had to do with it.

use super::{Rule, Sample, Setting, accept_queue_overflow::lost, queue_full};
use crate::{
    correlate::Case,
    verdict::{Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "steady-overload",
    id: "X8",
    blame: Blame::NotTheRollout,
    what: "the queue of connections that wait for accept(2) was full in a pod that had been there, of a service that had \
           lost no other",
    told_by: "as accept-queue-overflow, but no rollout had just brought the pod and its service had lost no endpoint lately: it \
              would have happened without one.",
    remedy: "nothing in the rollout: more pods, or a larger backlog in listen(2) and net.core.somaxconn for short bursts",
    fix: None,
    needs: &["inet_sock_set_state"],
    judge,
    summarise: queue_full::summarise,
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let seen = queue_full::dropped(case)?;
    (case.brought.is_none() && lost(case).is_none()).then(|| queue_full::finding(case, &seen))
}
