//! B5: a kept connection was used again just as its terminating server closed it.

use super::{Rule, Sample, Setting, keep_alive};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "keep-alive-race",
    id: "B5",
    blame: Blame::Rollout,
    what: "a terminating pod closed a connection that was idle, and the client's next request crossed that close or came \
           after it",
    told_by: "the kernel of the pod answered data that came after the pod's FIN (TCP_TIMEWAIT_SOCKET, or TCP_ABORT_ON_DATA while \
              the FIN was on its way), everything before it was answered, and the pod had been told to go. Not a request \
              that was cut: there the FIN or RST follows the request. Not a server whose idle timeout is shorter than its \
              client's: that pod lives on (keep-alive-mismatch).",
    remedy: "on SIGTERM answer with `Connection: close` (GOAWAY) and let the clients close; a client that retries idempotent \
             requests on connections that it used before; a preStop sleep only moves it",
    fix: None,
    needs: &["tcp_send_reset", "signal_generate", "tcp_send_reset/no_socket"],
    judge,
    summarise: |_, _| "requests on kept connections that the terminating server had just closed".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let late = keep_alive::late(case)?;
    let pod = case.target.pod?;
    let deleted = pod.deletion_seen.filter(|_| pod.ending_at(late.at))?;
    let asked = pod.asked_to_stop(late.at);
    if asked.is_none() && !pod.hook_speaks() {
        return None;
    }
    let mut evidence = vec![case.evidence(deleted, "deletion of the pod seen")];
    let signal = asked.map(|s| case.evidence(s.at, format!("signal {} from {}", s.sig, s.sender_comm)));
    evidence.extend(signal);
    evidence.extend(keep_alive::evidence(case, late));
    Some(Finding {
        because: format!(
            "the request came after {} had closed the idle connection on its way out",
            case.pod_name()
        ),
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "on SIGTERM answer with `Connection: close` (HTTP/2: GOAWAY), and let clients close idle connections".to_owned(),
        value: None,
        because: "the server closed idle connections that clients were about to use".to_owned(),
        prevents: 0,
    })
}
