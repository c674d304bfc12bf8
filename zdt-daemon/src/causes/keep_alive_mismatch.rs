//! X3: a kept connection was used again just as its living server closed it.

use super::{Rule, Sample, Setting, keep_alive, reload};
use crate::{
    correlate::{Case, ListenerHistory},
    verdict::{Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "keep-alive-mismatch",
    id: "X3",
    blame: Blame::NotTheRollout,
    what: "a server that lives on closed an idle connection, and the client's next request came too late: the server's \
           keep-alive timeout is shorter than the client's",
    told_by: "the same reset as in keep-alive-race (data after the server's FIN, everything before it answered), from a pod \
              whose application nobody had told to go (its own timeout closes connections during a preStop sleep, too) and \
              whose listener is still open. A server that was told to reload meanwhile closes what is idle, whatever its timeout.",
    remedy: "a keep-alive timeout of the server above the client's (or the proxy's, the load balancer's); retries of \
             idempotent requests on connections used before",
    fix: None,
    needs: &["tcp_send_reset", "tcp_send_reset/no_socket"],
    judge,
    summarise: |_, _| "requests on idle connections that a living server had closed".to_owned(),
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let late = keep_alive::late(case)?;
    let pod = case.target.pod?;
    // Until SIGTERM, or a hook that speaks to it, an application does not know that its pod is to go.
    let told = pod.asked_to_stop(late.at).is_some() || (pod.hook_speaks() && pod.ending_at(late.at));
    let unseen = pod.ending_at(late.at) && !case.whole_since(pod.end_began());
    if told || unseen || reload::while_idle(case, late.at).is_some() {
        return None;
    }
    // That nobody told it to reload meanwhile is concluded from what was not seen.
    let idle_since = case.client_last_got(late.at).unwrap_or(late.at);
    if !case.whole_since(idle_since.minus_ms(reload::RELOAD_TAKES_MS)) {
        return None;
    }
    // A server that ends closes its connections for that, and its listener.
    let port = case.server?.port();
    let since = late.at.minus_ms(keep_alive::CLOSED_LIVES_MS);
    let ended = |l: &ListenerHistory| l.closed.is_some_and(|c| since <= c && c <= late.at);
    if pod.listeners.iter().any(|l| l.local.port() == port && ended(l)) {
        return None;
    }
    Some(Finding {
        because: format!(
            "the request came after {} had closed the idle connection; nobody had told it to go",
            case.pod_name()
        ),
        evidence: keep_alive::evidence(case, late),
        measures: Vec::new(),
    })
}
