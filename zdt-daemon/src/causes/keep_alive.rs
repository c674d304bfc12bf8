//! What a keep-alive race and a keep-alive mismatch have in common: the reset to a request that came too late.

use crate::{
    correlate::{Case, Phase, ResetSeen},
    input::Side,
    verdict::Evidence,
};

/// How long the kernel knows a connection that its server closed first (include/net/tcp.h TCP_TIMEWAIT_LEN, and
/// tcp_fin_timeout as long).
pub(super) const CLOSED_LIVES_MS: u64 = 60_000;

/// The server's RST to data behind its own FIN, when that data was a request.
pub(super) fn late<'a>(case: &Case<'a>) -> Option<&'a ResetSeen> {
    if case.phase != Phase::Established || case.ended_by != Some(Side::Server) {
        return None;
    }
    case.flow
        .late_request()
        .filter(|_| !case.flow.closed_before_any_answer())
}

pub(super) fn evidence(case: &Case<'_>, late: &ResetSeen) -> Vec<Evidence> {
    let reason = late.reason.as_deref().unwrap_or("no reason given");
    let mut evidence = vec![case.evidence(late.at, format!("RST to data behind the server's FIN, {reason}"))];
    if let Some(end) = &case.flow.client_end {
        let text = format!(
            "client's socket: {:?} to {:?}, errno {}, {} bytes out, {} in",
            end.old,
            end.new,
            end.err,
            end.tcp.bytes_sent,
            end.received()
        );
        evidence.push(case.evidence(end.at, text));
    }
    evidence
}
