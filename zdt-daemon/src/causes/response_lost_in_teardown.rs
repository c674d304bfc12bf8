//! B4: the answer was written, and the pod's network was removed before it had left.

use super::{Rule, Sample, Setting, sample::say_ms};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "response-lost-in-teardown",
    id: "B4",
    blame: Blame::Rollout,
    what: "the application wrote its answer, closed and exited; its kernel still owed bytes of it when the pod's network was \
           removed: the client waits for the rest until it gives up",
    told_by: "the kernel of the terminated pod could not send unacknowledged bytes of a connection that its process had closed \
              (the retransmit found no route), or the client heard neither the rest nor the FIN that an ended process leaves, \
              and then nobody acknowledged its own. Loss on the way lets the retransmit leave; a request without an answer \
              is immediate-exit.",
    remedy: "exit only when the clients have it all: shutdown(SHUT_WR), then read until they close; or a moment of sleep before \
             the exit; a second container that ends later keeps the network",
    fix: None,
    needs: &[
        "tcp_retransmit_skb",
        "tcp_retransmit_skb/err",
        "sched_process_exit",
    ],
    judge,
    summarise: |_, _| "answers that had not left when the pod's network was removed".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    let pod = case.target.pod?;
    let unfinished = flow.seldom().given_up.as_ref().filter(|_| flow.only_unfinished());
    let at = flow.lost().map(|l| l.at).or(unfinished.map(|g| g.at))?;
    let down = pod.network_down().filter(|down| *down <= at)?;
    let mut evidence = Vec::new();
    evidence.extend(
        pod.deletion_seen
            .map(|at| case.evidence(at, "deletion of the pod seen")),
    );
    let asked = pod.asked_to_stop(at);
    evidence.extend(asked.map(|s| case.evidence(s.at, format!("signal {} from {}", s.sig, s.sender_comm))));
    evidence.push(case.evidence(
        down,
        "last process of the pod's sandbox ended, its network is removed",
    ));
    if let Some(lost) = flow.lost() {
        let text = format!(
            "retransmit with no way out: {} bytes acknowledged, {} bytes and the FIN are not",
            lost.acked, lost.bytes
        );
        evidence.push(case.evidence(lost.at, text));
    }
    if let Some(given_up) = unfinished {
        let text = format!(
            "the client gave up, and nobody acknowledges its FIN: its request was acknowledged, {} bytes of the answer came, \
             the FIN of an ended server did not",
            given_up.tcp.bytes_received
        );
        evidence.push(case.evidence(given_up.at, text));
    }
    let what = match flow.lost() {
        Some(lost) => format!("{} bytes had not left", lost.bytes),
        None => "its end had not left".to_owned(),
    };
    Some(Finding {
        because: format!(
            "answer lost: {what} {} when its network was removed, {} before",
            case.pod_name(),
            say_ms(at.ms_since(down)),
        ),
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting:
            "before exit wait until clients have their answers: shutdown(SHUT_WR), then read until they close"
                .to_owned(),
        value: None,
        because: "answers had not left when the pod's network was removed".to_owned(),
        prevents: 0,
    })
}
