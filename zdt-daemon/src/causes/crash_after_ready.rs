//! C2: a pod of the new template crashed.

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
    name: "crash-after-ready",
    id: "C2",
    blame: Blame::Rollout,
    what: "a pod that the rollout brought crashed: requests in flight were cut, and new ones refused until it ran again",
    told_by: "the process that served ended by itself (an exit status or a signal of its own making), its pod was not deleted, nothing had asked it to stop and the out-of-memory killer had not chosen it; the pod has the template that a rollout has just brought. A pod that was there before is ordinary-crash.",
    remedy: "minReadySeconds, so that the rollout waits out the first minutes of a new pod before it removes old ones; maxUnavailable: 0; roll back",
    fix: Some(fix::MIN_READY),
    needs: &["inet_sock_set_state", "sched_process_exit", "signal_generate"],
    judge,
    summarise: |_, _| "a pod of the new template crashed".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    case.brought?;
    let met = met(case)?;
    matches!(met.why, Why::Crashed(..)).then(|| met.finding(case))
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "minReadySeconds: above the time in which a bad version crashes".to_owned(),
        value: None,
        because: "pods of the new template crashed after they were Ready".to_owned(),
        prevents: 0,
    })
}
