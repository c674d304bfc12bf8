//! F2: a proxy read its configuration again, and the workers that this replaced dropped clients.

use super::{
    Rule, Sample, Setting,
    accept_queue_flush::{flushed, flushed_by},
    cut::cut,
    keep_alive,
    reload::{evidence, reload, replaced, told_evidence, while_idle},
    sample::say_ms,
};
use crate::{
    correlate::{Case, ContainerHistory, ExitSeen, PodHistory, ResetSeen, SignalSeen},
    input::Ktime,
    verdict::{Advice, Blame, Evidence, Finding},
};

pub static RULE: Rule = Rule {
    name: "proxy-reload",
    id: "F2",
    blame: Blame::Rollout,
    what: "a proxy was told to read its configuration again, and the workers of its old generation cut requests, flushed their \
           queue or closed connections under their clients",
    told_by: "the process that ended the connection exited with status 0, after another process of its container, which lives \
              on, had been told to reload; the pod is not being deleted and listens still. Not a crash (another status), not a \
              stop (the runtime's signal). Of an idle connection it is not seen who closed it: there the reload came when \
              the connection had been idle for less than any server's timeout, or the reset dates the close to it (the FIN \
              had not been acknowledged when the request came).",
    remedy: "keep the proxy's configuration as it is and switch the service's selector behind it; fewer reloads, batched; a \
             longer worker_shutdown_timeout (nginx) or hard-stop-after (haproxy), above the longest request",
    fix: None,
    needs: &["signal_generate", "sched_process_exit", "inet_sock_set_state"],
    judge,
    summarise: |samples, _| {
        format!(
            "{} connections ended by workers that a reload had replaced",
            samples.len()
        )
    },
    advise,
};

/// The longest that an acknowledgement is put off (include/net/tcp.h TCP_DELACK_MAX): a FIN that the request crossed is no
/// older.
const DELAYED_ACK_MS: f64 = 200.0;

fn judge(case: &Case<'_>) -> Option<Finding> {
    let stays = |p: &&PodHistory| p.known && !p.ending_at(case.ended) && case.deletions_known();
    let pod = case.target.pod.filter(stays)?;
    let port = case.server?.port();
    // It is one generation that ends, not the proxy. (The listener may be older than this daemon.)
    if pod.listener_closed(port, case.ended).is_some() {
        return None;
    }
    if let Some(at) = cut(case) {
        let end = case.flow.server_end.as_ref()?;
        let container = case.serving_container()?;
        return by_worker(case, container, end.tgid, at, "cut a request that was unanswered");
    }
    if let Some(reset) = flushed(case) {
        let listener = flushed_by(pod, port, reset)?;
        let container = case.container(listener.cgroup)?;
        return by_worker(
            case,
            container,
            listener.closed_by,
            reset.at,
            "closed its listener with the connection in its queue",
        );
    }
    idle(case, pod)
}

fn by_worker(
    case: &Case<'_>,
    container: &ContainerHistory,
    tgid: u32,
    at: Ktime,
    did: &str,
) -> Option<Finding> {
    let replaced = replaced(container, tgid, at)?;
    let mut evidence = evidence(case, &replaced);
    evidence.push(case.evidence(at, format!("process {tgid} ended the connection")));
    Some(finding(case, replaced.told.at, at, did, evidence))
}

/// The shortest keep-alive timeout that a server has by default (gunicorn's `keepalive`, 2 s): a connection that had been
/// idle for less when the reload came, the reload closed.
const SHORTEST_TIMEOUT_MS: f64 = 2_000.0;

/// A request on an idle connection that the old generation had closed.
fn idle(case: &Case<'_>, pod: &PodHistory) -> Option<Finding> {
    let late = keep_alive::late(case)?;
    if pod.asked_to_stop(late.at).is_some() {
        return None;
    }
    let (told, did) = match while_idle(case, late.at) {
        Some((answered, told)) if (0.0..SHORTEST_TIMEOUT_MS).contains(&told.at.ms_since(answered)) => {
            (told, "closed the idle connection before the request came")
        }
        _ => (
            crossed(case, late)?,
            "closed the idle connection just as the request came",
        ),
    };
    // The signal was a reload: a process made room.
    let made_room = |e: &&ExitSeen| {
        let other = ![told.tgid, told.sender_tgid].contains(&e.tgid);
        other && e.exit_code == 0 && told.at <= e.at
    };
    let exits = || pod.containers.values().flat_map(|c| &c.exits);
    let exit = exits().find(made_room)?;
    let mut evidence = keep_alive::evidence(case, late);
    evidence.extend([
        told_evidence(case, told),
        case.evidence(exit.at, format!("its worker {} {}", exit.tgid, exit.how())),
    ]);
    Some(finding(case, told.at, late.at, did, evidence))
}

/// The FIN had not been acknowledged when the request came, and the reload came no earlier than that.
fn crossed<'a>(case: &Case<'a>, late: &ResetSeen) -> Option<&'a SignalSeen> {
    if late.reason.as_deref() != Some("TCP_ABORT_ON_DATA") {
        return None;
    }
    let told = reload(case.container(late.cgroup)?, late.at)?;
    (late.at.ms_since(told.at) <= DELAYED_ACK_MS).then_some(told)
}

fn finding(case: &Case<'_>, told: Ktime, at: Ktime, did: &str, mut evidence: Vec<Evidence>) -> Finding {
    evidence.sort_by_key(|e| e.at);
    Finding {
        because: format!(
            "{} after {} was told to reload, a worker of its old generation {did}",
            say_ms(at.ms_since(told)),
            case.pod_name()
        ),
        evidence,
        measures: Vec::new(),
    }
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    let pod = &samples.first()?.pod;
    Some(Advice {
        setting: "switch the service's selector instead of the proxy's backend".to_owned(),
        value: None,
        because: format!(
            "{pod} dropped clients as it read its configuration again; with the selector nothing reloads"
        ),
        prevents: 0,
    })
}
