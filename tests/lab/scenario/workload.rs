//! What runs: the workload's settings, in Kubernetes' terms.

use serde::{Deserialize, Serialize};

/// The Deployment `shop/web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    pub replicas: u32,
    /// Pods above `replicas` while it rolls.
    pub max_surge: u32,
    /// Pods below `replicas` while it rolls.
    pub max_unavailable: u32,
    pub min_ready_s: u32,
    /// `terminationGracePeriodSeconds`
    pub grace_s: u32,
    /// `lifecycle.preStop.sleep.seconds`; absent: no preStop.
    pub pre_stop_sleep_s: Option<u32>,
    pub readiness: Readiness,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            replicas: 3,
            max_surge: 1,
            max_unavailable: 0,
            min_ready_s: 0,
            grace_s: 30,
            pre_stop_sleep_s: None,
            readiness: Readiness::default(),
        }
    }
}

/// The readiness probe (HTTP GET /ready); Kubernetes counts it in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    pub initial_delay_s: u32,
    pub period_s: u32,
    pub timeout_s: u32,
    pub failure_threshold: u32,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            initial_delay_s: 0,
            period_s: 1,
            timeout_s: 1,
            failure_threshold: 3,
        }
    }
}
