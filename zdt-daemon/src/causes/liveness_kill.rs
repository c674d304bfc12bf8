//! C4: the kubelet stopped a container of the new template because a probe failed.

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
    name: "liveness-kill",
    id: "C4",
    blame: Blame::Rollout,
    what: "the kubelet stopped a container of a pod that the rollout brought (its liveness or startup probe failed): requests in flight were cut, and new ones refused until it ran again",
    told_by: "the container runtime sent the stop signal, and nobody had deleted the pod; the pod has the template that a rollout has just brought. A deleted pod gets the same signal from the same process (immediate-exit, endpoint-removal-race). A pod that was there before is ordinary-crash.",
    remedy: "a startupProbe for slow starts; a liveness probe that is looser than the readiness probe and asks nothing of others",
    fix: Some(fix::LIVENESS),
    needs: &["inet_sock_set_state", "signal_generate"],
    judge,
    summarise: |_, _| "the kubelet restarted a container of the new template".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    case.brought?;
    let met = met(case)?;
    matches!(met.why, Why::Stopped(..)).then(|| met.finding(case))
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "livenessProbe: raise failureThreshold and timeoutSeconds; startupProbe for slow starts"
            .to_owned(),
        value: None,
        because: "the kubelet restarted containers that were serving".to_owned(),
        prevents: 0,
    })
}
