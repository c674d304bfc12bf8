//! Which scenarios of the lab run in each kernel: a spread over what causes need of it (`needs` in `zdt-daemon/src/causes`), each
//! short and with failures enough at a tenth of the speed.

use std::fs;

use anyhow::{Context as _, Result};

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
    ("core/grace-period-exceeded", "SIGKILL"),
    ("data-plane/no-endpoints", "an ICMP error that a socket got"),
    ("data-plane/policy-drop", "why a packet was dropped"),
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
    (
        "pods/traffic-before-listening",
        "RST without a socket, before there is a listener",
    ),
    ("pods/crash-on-request", "an exit that is nobody's rollout"),
    ("core/healthy", "nothing fails: nothing may be claimed"),
    // Its servers are as slow as their clients allow, so on a slow machine other things fail, too.
    (
        "pods/accept-queue-flush",
        "the RST of a connection that nobody has accepted",
    ),
];
const FEW: usize = 11;

pub fn all() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

pub fn few() -> Vec<&'static str> {
    SCENARIOS.iter().take(FEW).map(|(name, _)| *name).collect()
}

/// An emulated machine needs 10 s until a new pod is ready, and as long for each of the rules' changes as others for ten: what a
/// scenario has between two things is to last longer than they do.
const STRETCH: u64 = 3;
const LONGER: [&str; 11] = [
    "at_ms",
    "seconds",
    "timeout_ms",
    "drain_ms",
    "accept_delay_ms",
    "response_delay_ms",
    "oom_after_ms",
    "policy_delay_ms",
    "rules_delay_ms",
    "pre_stop_sleep_s",
    "grace_s",
];
/// Requests a second that an emulated machine can do.
const RATE: u64 = 30;

/// Commands that copy the scenarios into a folder, as an emulated machine can perform them.
pub fn copied(scenarios: &[&str], folder: &str) -> Result<Vec<String>> {
    let mut lines = vec![format!("mkdir {folder}")];
    for scenario in scenarios {
        let file = layout::scenarios().join(format!("{scenario}.yaml"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = scenario.rsplit('/').next().unwrap_or(scenario);
        let text = slowed(&text);
        lines.push(format!("cat >{folder}/{name}.yaml <<'END'\n{text}END"));
    }
    Ok(lines)
}

/// The same story, told more slowly (to clients as well, whose own patience ends after 3 s), and without the scanner and the rest of what happens beside.
fn slowed(scenario: &str) -> String {
    let mut slow = String::new();
    for line in scenario.lines().filter(|line| !line.starts_with("noise:")) {
        let patient = line.replace("client: {", "client: {timeout_ms: 3000, ");
        let mut rest = match line {
            impatient if impatient.contains("timeout_ms") => impatient,
            _ => patient.as_str(),
        };
        while let Some(colon) = rest.find(": ") {
            let (before, value) = rest.split_at(colon + 2);
            let key = before[..colon].rsplit([' ', '{']).next().unwrap_or_default();
            let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
            let (number, behind) = value.split_at(digits);
            slow += before;
            slow += &number.parse().map_or_else(
                |_| number.to_owned(),
                |number: u64| match key {
                    _ if LONGER.contains(&key) => (number * STRETCH).to_string(),
                    "rate" => number.div_ceil(STRETCH).min(RATE).to_string(),
                    "pace_bytes_s" => number.div_ceil(STRETCH).to_string(),
                    _ => number.to_string(),
                },
            );
            rest = behind;
        }
        slow += rest;
        slow.push('\n');
    }
    slow + "noise: false\n"
}

#[cfg(test)]
mod tests {
    use super::{all, few, slowed};
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

    #[test]
    fn a_slow_machine_gets_the_same_story_with_more_time() {
        let story = "name: a b\nnoise: true\nclient: {rate: 300, seconds: 9}\nactions:\n  - {at_ms: 1500, do: {scale: 2}}\n";
        assert_eq!(
            slowed(story),
            "name: a b\nclient: {timeout_ms: 9000, rate: 30, seconds: 27}\nactions:\n  - {at_ms: 4500, do: {scale: 2}}\nnoise: false\n"
        );
    }
}
