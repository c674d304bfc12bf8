//! What the causes of a proxy's reload ask first: was this process a worker of the generation that a reload replaced?

use crate::{
    correlate::{Case, ContainerHistory, ExitSeen, SignalSeen},
    input::Ktime,
    verdict::Evidence,
};

/// signal(7): what nginx, Apache, Envoy's wrappers and gunicorn's master (1), and haproxy's master (12) are told to read
/// their configuration again with.
const SIGHUP: i32 = 1;
const SIGUSR2: i32 = 12;

/// From the signal to the old generation's closing of what is idle: the configuration is read first. A choice; nginx took
/// 100 to 400 ms in the recorded fixtures.
pub(super) const RELOAD_TAKES_MS: u64 = 1_000;

/// A process of a container that made room for the next generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaced<'a> {
    /// Told to the first process, which lives on.
    pub told: &'a SignalSeen,
    pub exit: &'a ExitSeen,
}

/// The last reload of a container by `at`: told to a process that has not ended by then.
pub(super) fn reload(container: &ContainerHistory, at: Ktime) -> Option<&SignalSeen> {
    let asks = |s: &&SignalSeen| matches!(s.sig, SIGHUP | SIGUSR2) && s.from_user_space() && s.at <= at;
    let told = container.signals.iter().rev().find(asks)?;
    let ended = |e: &ExitSeen| e.tgid == told.tgid && told.at <= e.at;
    (!container.exits.iter().any(ended)).then_some(told)
}

/// The process exited by itself and well, after another one of its container had been told to reload and before anybody
/// told the container to stop. `at`: when it closed the connection.
pub(super) fn replaced(container: &ContainerHistory, tgid: u32, at: Ktime) -> Option<Replaced<'_>> {
    let told = reload(container, at).filter(|told| told.tgid != tgid)?;
    let exit = container
        .exits
        .iter()
        .rev()
        .find(|e| e.tgid == tgid && e.exit_code == 0 && told.at <= e.at)?;
    container
        .asked_to_stop(told.at, exit.at)
        .is_none()
        .then_some(Replaced { told, exit })
}

/// The last answer on this connection, and the reload of the pod's server between it (or as good as) and the request that came
/// too late: it closed every idle connection. None: there was none, or when the last answer was is not known.
pub(super) fn while_idle<'a>(case: &Case<'a>, late: Ktime) -> Option<(Ktime, &'a SignalSeen)> {
    let answered = case.client_last_got(late)?;
    let containers = case.target.pod?.containers.values();
    let told = containers
        .filter_map(|c| reload(c, late))
        .max_by_key(|told| told.at)?;
    (answered <= told.at.plus_ms(RELOAD_TAKES_MS)).then_some((answered, told))
}

pub(super) fn evidence(case: &Case<'_>, replaced: &Replaced<'_>) -> Vec<Evidence> {
    let Replaced { told, exit } = replaced;
    vec![
        told_evidence(case, told),
        case.evidence(
            exit.at,
            format!("its worker {} ({}) {}", exit.tgid, exit.comm, exit.how()),
        ),
    ]
}

pub(super) fn told_evidence(case: &Case<'_>, told: &SignalSeen) -> Evidence {
    let text = format!("signal {} from {}: reload", told.sig, told.sender_comm);
    case.evidence(told.at, text)
}
