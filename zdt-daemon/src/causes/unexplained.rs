//! No rule matched: what was seen, and what was missing. Never a guess.

use crate::{
    correlate::{Case, Phase},
    input::Side,
    verdict::Judgement,
};

/// The name of the verdict without a cause.
pub const NAME: &str = "unexplained";

pub(crate) fn judge(case: &Case<'_>) -> Judgement {
    let flow = case.flow;
    // In a flood there are thousands of it a second: mostly a beginning, an end and what came between.
    let mut seen = Vec::with_capacity(4);
    seen.push(case.evidence(flow.began, format!("connection from {}", flow.client())));
    let mut missing = Vec::new();
    if let Some(deleted) = case.deletion_seen() {
        seen.push(case.evidence(deleted, "deletion of the pod seen"));
    } else {
        missing.push("a deletion of the pod before the failure".to_owned());
    }
    seen.extend(case.first_drop());
    if let Some(reset) = &flow.server_reset {
        let to = if reset.to_syn {
            "to the SYN"
        } else {
            "to an established connection"
        };
        let reason = reset.reason.as_deref().unwrap_or("no reason given");
        seen.push(case.evidence(reset.at, format!("RST from the server's side {to}, {reason}")));
    }
    if let Some(end) = &flow.client_end {
        let text = format!(
            "client's socket: {:?} to {:?}, errno {} (soft {}), {} bytes out, {} in",
            end.old,
            end.new,
            end.err,
            end.err_soft,
            end.tcp.bytes_sent,
            end.received()
        );
        seen.push(case.evidence(end.at, text));
    }
    if let Some(end) = &flow.server_end {
        let text = format!(
            "server's socket: {:?} to {:?}, errno {}, {} bytes in, {} out",
            end.old,
            end.new,
            end.err,
            end.received(),
            end.tcp.bytes_sent
        );
        seen.push(case.evidence(end.at, text));
    }
    let retransmits =
        flow.syn_retransmits + flow.seldom().request_retransmits + flow.seldom().answer_retransmits;
    if retransmits > 0 {
        seen.push(case.evidence(case.ended, format!("{retransmits} retransmits")));
    }
    match (case.server, case.target.pod, case.target.endpoint) {
        (None, ..) => missing.push("where the node's translation sent the connection".to_owned()),
        (Some(server), None, None) => missing.push(format!("a pod that owned {server} then")),
        _ => {}
    }
    if case.phase == Phase::Established
        && case.ended_by == Some(Side::Server)
        && case.serving_container().is_none()
    {
        missing.push("the container that served the connection".to_owned());
    }
    seen.sort_by_key(|e| e.at);
    Judgement::Unexplained { seen, missing }
}
