//! What traffic-before-listening and wrong-port ask first: did a living pod refuse a connection on a port on which it had
//! never listened?

use crate::{
    correlate::{Case, Phase, PodHistory, ResetSeen},
    verdict::Outcome,
};

/// The RST, and the pod. Its containers must have been seen from their start, and must not have ended: a port that was
/// open before is another matter.
pub(super) fn never_heard<'a>(case: &Case<'a>) -> Option<(&'a ResetSeen, &'a PodHistory)> {
    if case.phase != Phase::Connect || case.outcome != Outcome::Refused {
        return None;
    }
    let reset = case
        .flow
        .server_reset
        .as_ref()
        .filter(|r| r.to_syn && !r.has_socket)?;
    let pod = case.target.pod.filter(|p| p.known && p.from_birth)?;
    let restarted = pod.state.containers.iter().any(|c| {
        c.restarts > 0
            || c.last_state.is_some()
            || c.state.starts_with("terminated")
            || c.state == "waiting:CrashLoopBackOff"
    });
    let heard = pod.has_listened(case.server?.port(), reset.at);
    (!restarted && !heard && !pod.ending_at(reset.at) && case.deletions_known()).then_some((reset, pod))
}
