//! Which scenarios of the lab run in each kernel: a spread over what causes need of it (`needs` in `zdt-daemon/src/causes`), each
//! short and with failures enough at a tenth of the speed.

use crate::layout;

/// Each with what it is here for. The first are the few.
const SCENARIOS: [(&str, &str); 15] = [
    (
        "core/rolling-update-no-prestop",
        "RST without a socket, SYNs into nothing, rules of nf_tables",
    ),
    (
        "core/rolling-update-legacy",
        "the same with rules that only the free of a legacy table's counters announces",
    ),
    (
        "core/immediate-exit",
        "a FIN behind a request that was read, the signal before it",
    ),
    ("data-plane/no-endpoints", "an ICMP error that a socket got"),
    ("data-plane/policy-drop", "why a packet was dropped"),
    (
        "pods/accept-queue-flush",
        "the RST of a connection that nobody has accepted",
    ),
    ("pods/accept-queue-overflow", "a listener's count of drops"),
    ("pods/errors-while-draining", "what answers say"),
    ("pods/oom-kill", "the OOM killer's victim"),
    (
        "pods/response-lost-in-teardown",
        "a retransmit that could not leave",
    ),
    (
        "topology/client-outside",
        "packets and conntrack alone: the client has no socket here",
    ),
    ("core/grace-period-exceeded", "SIGKILL"),
    (
        "pods/traffic-before-listening",
        "RST without a socket, before there is a listener",
    ),
    ("pods/crash-on-request", "an exit that is nobody's rollout"),
    ("core/healthy", "nothing fails: nothing may be claimed"),
];
const FEW: usize = 11;

pub fn all() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

pub fn few() -> Vec<&'static str> {
    SCENARIOS.iter().take(FEW).map(|(name, _)| *name).collect()
}

/// A request each 25 ms is what an emulated machine can do.
const RATE: &str = "s/rate: [0-9][0-9]*/rate: 40/";

/// And the scanner and the rest of what happens beside are too much for it.
const QUIET: &str = "sed -i -e '/^noise:/d' -e '$a noise: false'";

/// Commands that copy the scenarios into a folder, as an emulated machine can perform them.
pub fn copied(scenarios: &[&str], folder: &str) -> Vec<String> {
    let mut lines = vec![format!("mkdir {folder}")];
    for scenario in scenarios {
        let file = layout::scenarios().join(format!("{scenario}.yaml"));
        let name = scenario.rsplit('/').next().unwrap_or(scenario);
        lines.push(format!(
            "sed '{RATE}' {} >{folder}/{name}.yaml; {QUIET} {folder}/{name}.yaml",
            file.display()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{all, few};
    use crate::layout;

    #[test]
    fn every_scenario_is_there_and_ten_at_least_are_the_few() {
        for name in all() {
            assert!(
                layout::scenarios().join(format!("{name}.yaml")).is_file(),
                "{name}"
            );
        }
        assert!(few().len() >= 10);
    }
}
