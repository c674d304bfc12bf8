//! What the daemon advised, tried: the same scenario again with the value that it computed. Pure.

use serde_json::Value;

use crate::{
    run::Ran,
    scenario::{Expect, Range, Scenario, Step},
};

/// The setting whose value the daemon computes.
pub const SETTING: &str = "lifecycle.preStop.sleep.seconds";

/// The largest value that a rollout summary advises for the setting, seconds.
pub fn advised(ran: &Ran) -> Option<u64> {
    pre_stop(&ran.rollouts)
        .filter_map(|advice| advice.get("value")?.as_u64())
        .max()
}

fn pre_stop(rollouts: &[Value]) -> impl Iterator<Item = &Value> {
    let advice = rollouts
        .iter()
        .filter_map(|r| r.get("advice")?.as_array())
        .flatten();
    advice.filter(|a| a.get("setting").and_then(Value::as_str) == Some(SETTING))
}

/// The daemons say that this setting alone prevents everything that failed.
fn prevents_all(rollouts: &[Value]) -> bool {
    let sum = |of: &mut dyn Iterator<Item = Option<u64>>| of.flatten().sum::<u64>();
    let failed = sum(&mut rollouts.iter().map(|r| r.get("failed")?.as_u64()));
    let prevented = sum(&mut pre_stop(rollouts).map(|a| a.get("prevents")?.as_u64()));
    failed > 0 && prevented == failed
}

/// The same scenario with the value: nothing may fail. The client goes on for as long as the pods now take.
pub fn with(scenario: &Scenario, seconds: u64) -> Scenario {
    let mut with = scenario.clone();
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    with.name += "-advised";
    with.workload.pre_stop_sleep_s = Some(seconds);
    // The advice leaves what is in flight its time.
    with.workload.grace_s = with.workload.grace_s.max(seconds.saturating_add(30));
    with.client.seconds += f64::from(seconds.saturating_mul(with.workload.replicas));
    with.expect = Expect {
        failed: Range { min: 0, max: Some(0) },
        ..Expect::default()
    };
    with
}

/// The run that tries the advice, where it says that nothing would have failed. None: other settings are needed, too, or the
/// scenario rolls out a workload of its own, or one that has a hook, or zdt is not let see all of it: what a longer rollout than
/// the fault's would show then is nobody's expectation.
pub fn trial(scenario: &Scenario, ran: &Ran) -> Option<Scenario> {
    let own = |a: &crate::scenario::Action| {
        matches!(
            a.what,
            Step::Apply(_)
                | Step::SwitchSelector(_)
                | Step::Api(_)
                | Step::RestartDaemon(_)
                | Step::PauseDaemon(_)
        )
    };
    let workload = &scenario.workload;
    let hooked = workload.pre_stop_exec.is_some() || workload.pre_stop_http.is_some();
    if hooked || scenario.actions.iter().any(own) || !prevents_all(&ran.rollouts) {
        return None;
    }
    advised(ran).map(|seconds| with(scenario, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(failed: u64, prevents: u64) -> Value {
        json!({"failed": failed, "advice": [
            {"setting": SETTING, "value": 4, "prevents": prevents},
            {"setting": "handle SIGTERM", "value": null, "prevents": 0}]})
    }

    #[test]
    fn only_advice_that_prevents_everything_can_be_held_to_it() {
        assert!(prevents_all(&[rollout(3, 3), rollout(0, 0)]));
        assert!(!prevents_all(&[rollout(3, 2)]));
        assert!(!prevents_all(&[rollout(0, 0)]), "nothing failed");
    }
}
