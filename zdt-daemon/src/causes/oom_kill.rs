//! C5: the out-of-memory killer ended a process of the new template.

use super::{
    Rule, Sample, Setting,
    ended::{Why, met},
    fix,
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "oom-kill",
    id: "C5",
    blame: Blame::Rollout,
    what: "the out-of-memory killer ended a process of a pod that the rollout brought, or a child of it, with requests in flight",
    told_by: "mark_victim in the container, then the process that served died of SIGKILL without one from the runtime. A SIGKILL at the end of the grace comes from the runtime. A child process that is killed leaves the container running: the API shows nothing. A pod that was there before is ordinary-crash.",
    remedy: "resources.limits.memory above what the new version needs; fewer pods in surge per node",
    fix: Some(fix::MEMORY),
    needs: &["inet_sock_set_state", "sched_process_exit", "mark_victim"],
    judge,
    summarise: |_, _| "a process of the new template was killed for lack of memory".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    case.brought?;
    let met = met(case)?;
    matches!(met.why, Why::OutOfMemory(..)).then(|| met.finding(case))
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "resources.limits.memory: raise it above what the new version needs".to_owned(),
        value: None,
        because: "the out-of-memory killer ended processes that were serving".to_owned(),
        prevents: 0,
    })
}
