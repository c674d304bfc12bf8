//! What the causes of a container's end ask first: did this request meet a server whose process had ended, or was told to,
//! while nobody had told its pod to go?

use super::{
    accept_queue_flush::{flushed, flushed_by},
    cut::{cut, unanswered},
    keep_alive,
    sample::say_ms,
};
use crate::{
    correlate::{Case, ContainerHistory, Ending, ExitSeen, ListenerHistory, Phase, SignalSeen},
    input::Ktime,
    verdict::{Evidence, Finding, Outcome, Trigger},
};

/// Why the server was not there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why<'a> {
    /// The runtime stopped this container alone: its kubelet restarts it.
    Stopped(&'a SignalSeen),
    OutOfMemory(Ktime, &'a ExitSeen),
    Crashed(&'a ExitSeen),
}

/// How the request met it.
#[derive(Clone, Copy, Debug)]
enum How {
    /// It was being answered.
    Cut,
    /// It waited to be accepted.
    Queued,
    /// It came over a connection that the end had closed.
    Late,
    /// It came to a closed port.
    Refused,
}

/// Who ended the container that this request met, where nobody had deleted its pod.
pub(crate) fn ended_by(case: &Case<'_>) -> Option<Trigger> {
    Some(match met(case)?.why {
        Why::Stopped(_) => Trigger::Liveness,
        Why::OutOfMemory(..) => Trigger::Oom,
        Why::Crashed(_) => Trigger::Crash,
    })
}

/// A request and the end of its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met<'a> {
    pub why: Why<'a>,
    how: How,
    /// When the request met it.
    at: Ktime,
    listener: Option<&'a ListenerHistory>,
}

/// The end of the server's process that this request met.
pub(super) fn met<'a>(case: &Case<'a>) -> Option<Met<'a>> {
    let pod = case.target.pod.filter(|p| p.known)?;
    let port = case.server?.port();
    let (at, how) = if let Some(at) = cut(case) {
        (at, How::Cut)
    } else if let Some(late) = keep_alive::late(case) {
        (late.at, How::Late)
    } else if let Some(flushed) = flushed(case) {
        (flushed.at, How::Queued)
    } else if case.phase == Phase::Connect && case.outcome == Outcome::Refused {
        let reset = case.flow.server_reset.as_ref();
        (reset.filter(|r| r.to_syn && !r.has_socket)?.at, How::Refused)
    } else {
        return None;
    };
    if let How::Cut = how {
        let container = case.serving_container()?;
        let end = case.flow.server_end.as_ref()?;
        let why = if end.exiting {
            of_ending(container.ending(end.tgid, end.at)?)?
        } else {
            stopped(container, at)?
        };
        return spoken(
            case,
            Met {
                why,
                how,
                at,
                listener: None,
            },
        );
    }
    let listener = match how {
        How::Refused => pod.listener_closed(port, at)?,
        How::Queued => flushed_by(pod, port, flushed(case)?)?,
        _ => pod.listeners.iter().rev().find(|l| {
            let closed = |c: Ktime| c <= at && at <= c.plus_ms(keep_alive::CLOSED_LIVES_MS);
            l.local.port() == port && l.closed.is_some_and(closed)
        })?,
    };
    let container = case.container(listener.cgroup)?;
    let closed = listener.closed?;
    let why = if listener.by_exit {
        of_ending(container.ending(listener.closed_by, closed)?)?
    } else {
        stopped(container, closed)?
    };
    spoken(
        case,
        Met {
            why,
            how,
            at,
            listener: Some(listener),
        },
    )
}

/// A pod that had been told to go is another matter, except where the out-of-memory killer was faster; and a kubelet that
/// ends a whole pod by itself says so in its status.
fn spoken<'a>(case: &Case<'a>, met: Met<'a>) -> Option<Met<'a>> {
    let pod = case.target.pod?;
    let whole_pod = pod.ending_at(met.at) || pod.state.reason.is_some() || pod.state.disruption.is_some();
    let alone = !whole_pod && case.deletions_known();
    (alone || matches!(met.why, Why::OutOfMemory(..))).then_some(met)
}

/// The runtime's request to stop, by `at`.
fn stopped(container: &ContainerHistory, at: Ktime) -> Option<Why<'_>> {
    let asked = |s: &&SignalSeen| s.from_runtime() && s.asks_to_stop() && s.at <= at;
    container.signals.iter().rev().find(asked).map(Why::Stopped)
}

fn of_ending(ending: Ending<'_>) -> Option<Why<'_>> {
    match ending {
        Ending::Stopped { asked, .. } => Some(Why::Stopped(asked)),
        Ending::OutOfMemory { chosen, exit } => Some(Why::OutOfMemory(chosen, exit)),
        // A signal to stop, or a status that answers one (0, or 128 + the signal), whose sender was not seen: not of its
        // own accord.
        Ending::ByItself { exit } => {
            let status = exit.exit_code >> 8 & 0xff;
            let asked = [1, 2, 3, 9, 15]
                .iter()
                .any(|sig| exit.killed_by(*sig) || status == 128 + sig);
            let clean = exit.exit_code == 0;
            (!asked && !clean).then_some(Why::Crashed(exit))
        }
    }
}

impl<'a> Met<'a> {
    /// The finding, with `cause` as the beginning of its sentence.
    pub(super) fn finding(&self, case: &Case<'a>) -> Finding {
        let pod = case.pod_name();
        let (ended, what) = match self.why {
            Why::Stopped(asked) => (asked.at, "the kubelet stopped its container".to_owned()),
            Why::OutOfMemory(chosen, exit) => (
                chosen,
                format!("the out-of-memory killer chose its process {}", exit.tgid),
            ),
            Why::Crashed(exit) => (exit.at, format!("its process {} {}", exit.tgid, exit.how())),
        };
        let after = say_ms(self.at.ms_since(ended).max(0.0));
        let met = match self.how {
            How::Cut => "request cut",
            How::Late => "request on a connection that had ended with its server",
            How::Queued => "connection reset before it was accepted",
            How::Refused => "connection refused",
        };
        Finding {
            because: format!("{met} by {pod} {after} after {what}; nobody had deleted the pod"),
            evidence: self.evidence(case),
            measures: Vec::new(),
        }
    }

    fn evidence(&self, case: &Case<'a>) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        match self.why {
            Why::Stopped(asked) => {
                let text = format!(
                    "signal {} from {}, the pod not deleted",
                    asked.sig, asked.sender_comm
                );
                evidence.push(case.evidence(asked.at, text));
            }
            Why::OutOfMemory(chosen, exit) => {
                evidence.push(case.evidence(
                    chosen,
                    "the out-of-memory killer chose a process of the container",
                ));
                let text = format!("process {} ({}) {}", exit.tgid, exit.comm, exit.how());
                evidence.push(case.evidence(exit.at, text));
            }
            Why::Crashed(exit) => {
                let text = format!("process {} ({}) {}", exit.tgid, exit.comm, exit.how());
                evidence.push(case.evidence(exit.at, text));
            }
        }
        if let Some((listener, closed)) = self.listener.and_then(|l| Some((l, l.closed?))) {
            evidence.push(case.evidence(closed, format!("listener {} closed", listener.local)));
        }
        let met = match self.how {
            How::Cut => unanswered(case),
            How::Late => "RST to data behind the server's FIN".to_owned(),
            How::Queued => "RST to a connection that waited to be accepted, TCP_STATE".to_owned(),
            How::Refused => "RST to the SYN".to_owned(),
        };
        evidence.push(case.evidence(self.at, met));
        if let Some(since) = case.brought {
            evidence.push(case.evidence(since, "a rollout to the pod's template began"));
        }
        evidence.sort_by_key(|e| e.at);
        evidence
    }
}
