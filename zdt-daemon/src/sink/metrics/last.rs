//! The last rollout of each workload: when it was, how long it took, what it lost, and which settings prevent that.
//!
//! States, not counts: what happened a week ago still stands there, whatever window a dashboard looks at.

use std::collections::HashMap;

use prometheus::{Gauge, IntCounter, Registry, Result};

use super::family::{Described, Family};
use crate::{input::Ktime, verdict::RolloutSummary};

const WORKLOAD: &[&str] = &["namespace", "workload"];

/// The setting is one of the sentences that stand in the rules: a closed set.
const SETTING: &[&str] = &["namespace", "workload", "setting"];

const BEGAN: Described = Described {
    name: "zdt_last_rollout_timestamp_seconds",
    help: "When the last rollout (or scale-down, or deletion) in which pods of this node ended began, in seconds since the \
           Unix epoch.",
    labels: WORKLOAD,
    buckets: &[],
    most: 500,
};

const TOOK: Described = Described {
    name: "zdt_last_rollout_duration_seconds",
    help: "From the first change of a pod of this node to the last one of the last rollout.",
    ..BEGAN
};

const FAILED: Described = Described {
    name: "zdt_last_rollout_failed_requests",
    help: "Requests that failed in the last rollout and that this node answers for: the rollout's, and those that are \
           unexplained.",
    ..BEGAN
};

const PREVENTS: Described = Described {
    name: "zdt_last_rollout_advice_prevents_requests",
    help: "How many of the requests that failed in the last rollout this setting would have prevented; 0: it was advised \
           for an earlier one.",
    labels: SETTING,
    most: 1_000,
    ..BEGAN
};

const VALUE: Described = Described {
    name: "zdt_last_rollout_advice_value",
    help: "The value that is advised for this setting, from what was measured in the last rollout; absent where the setting \
           has no number.",
    ..PREVENTS
};

/// Written when a rollout is summed up.
pub(super) struct LastRollouts {
    began: Family<Gauge>,
    took: Family<Gauge>,
    failed: Family<Gauge>,
    prevents: Family<Gauge>,
    value: Family<Gauge>,
    /// Of each workload that has series: when its last rollout began, and what was advised.
    last: HashMap<Vec<String>, (Ktime, Vec<String>)>,
}

impl LastRollouts {
    pub(super) fn register(registry: &Registry, overflow: impl Fn(&Described) -> IntCounter) -> Result<Self> {
        let family = |of: Described| Family::register(of, registry, overflow(&of));
        Ok(Self {
            began: family(BEGAN)?,
            took: family(TOOK)?,
            failed: family(FAILED)?,
            prevents: family(PREVENTS)?,
            value: family(VALUE)?,
            last: HashMap::new(),
        })
    }

    /// A summary may come again, also after that of a later rollout.
    pub(super) fn summed_up(&mut self, workload: &str, rollout: &RolloutSummary) {
        let of = vec![rollout.namespace.clone(), workload.to_owned()];
        let before = self.last.get(&of);
        if before.is_some_and(|(began, _)| *began > rollout.began) {
            return;
        }
        let Some(began) = self.began.of(of.clone()) else {
            return;
        };
        began.set(rollout.wall.0 as f64 / 1000.0);
        if let Some(took) = self.took.of(of.clone()) {
            took.set(rollout.took_ms.max(0.0) / 1000.0);
        }
        if let Some(failed) = self.failed.of(of.clone()) {
            failed.set(rollout.failed as f64);
        }
        let with = |setting: &String| [of.as_slice(), std::slice::from_ref(setting)].concat();
        for setting in before.iter().flat_map(|(_, settings)| settings) {
            if let Some(prevents) = self.prevents.of(with(setting)) {
                prevents.set(0.0);
            }
        }
        for advice in &rollout.advice {
            if let Some(prevents) = self.prevents.of(with(&advice.setting)) {
                prevents.set(advice.prevents as f64);
            }
            if let Some(seconds) = advice.value
                && let Some(value) = self.value.of(with(&advice.setting))
            {
                value.set(seconds as f64);
            }
        }
        let settings = rollout.advice.iter().map(|a| a.setting.clone()).collect();
        self.last.insert(of, (rollout.began, settings));
    }
}
