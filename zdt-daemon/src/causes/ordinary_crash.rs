//! X4: a container ended, and no rollout brought it.

use super::{Rule, Sample, Setting, ended::met};
use crate::{
    correlate::Case,
    verdict::{Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "ordinary-crash",
    id: "X4",
    blame: Blame::NotTheRollout,
    what: "a container crashed, ran out of memory or failed its liveness probe, in a pod that no rollout had just brought",
    told_by: "as crash-after-ready, liveness-kill and oom-kill, but the template of the pod is not one that a rollout has just brought: it would have happened without it.",
    remedy: "nothing in the rollout: what ended the container is in the evidence",
    fix: None,
    needs: &["inet_sock_set_state", "sched_process_exit", "signal_generate"],
    judge,
    summarise: |_, _| "a container ended that no rollout had brought".to_owned(),
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.brought.is_some() {
        return None;
    }
    met(case).map(|met| met.finding(case))
}
