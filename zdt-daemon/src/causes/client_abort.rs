//! X1: the client left first. Reported, and never the rollout's.

use super::{Rule, Sample, Setting, upstream_client_ended};
use crate::{
    correlate::{Case, Phase, PodHistory},
    input::{Ktime, Side},
    verdict::{Blame, Finding, Outcome},
};

/// Between what ends a connection and what the other side shows of it. A choice: some round trips and a retransmission
/// timeout of 200 ms (TCP_RTO_MIN, include/net/tcp.h) or two.
const FIRST_MOVE_MS: u64 = 1_000;

pub static RULE: Rule = Rule {
    name: "client-abort",
    id: "X1",
    blame: Blame::NotTheRollout,
    what: "the client hung up before the answer, while the server was there",
    told_by: "the first FIN or RST came from the client's side, and nothing on the connection had been retransmitted \
              before. A client that gives up on a dead or silent pod retransmits first.",
    remedy: "nothing in the rollout: the client's timeout, or the server's answer time",
    fix: None,
    // Nor is a RST that the client's kernel sent for nobody (a spurious one) told from a client that hung up without the last.
    needs: &[
        "inet_sock_set_state",
        "tcp_retransmit_skb",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise: |_, _| "the client hung up before the answer".to_owned(),
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    // Look back first: it may have given up on a pod that was dead.
    if case.phase != Phase::Established
        || case.ended_by != Some(Side::Client)
        || case.outcome != Outcome::TimedOut
        || flow.syn_retransmits > 0
        || flow.seldom().request_retransmits > 0
        || flow.seldom().answer_retransmits > 0
    {
        return None;
    }
    // That the server's side did nothing first is concluded from what was not seen, also shortly before the first sight of
    // an established connection.
    if !case.whole_since(flow.began.minus_ms(FIRST_MOVE_MS)) {
        return None;
    }
    // So is that a client which serves others was not ending itself.
    let remembered = Ktime::default();
    if upstream_client_ended::may_be_ending(case) && !case.whole_since(remembered) {
        return None;
    }
    // A pod whose network has ended cannot answer, whoever closes first.
    if case
        .target
        .pod
        .and_then(PodHistory::network_down)
        .is_some_and(|down| down <= case.ended)
    {
        return None;
    }
    let at = flow.client_end.as_ref().map_or(case.ended, |e| e.at);
    let because = format!(
        "{} closed the connection before {} answered",
        flow.client(),
        case.pod_name()
    );
    let mut evidence = vec![case.evidence(at, "the client's side ended the connection first")];
    if let Some(end) = &flow.server_end {
        let text = format!(
            "server's side: {} bytes in, {} bytes out",
            end.received(),
            end.tcp.bytes_sent
        );
        evidence.push(case.evidence(end.at, text));
    }
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}
