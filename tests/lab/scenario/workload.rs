//! What runs: the workload's settings, in Kubernetes' terms.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::App;

/// The workload `shop/web`, or one beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    pub kind: Kind,
    pub replicas: u32,
    /// Of a Deployment.
    pub strategy: Strategy,
    /// Pods above `replicas` while a Deployment rolls.
    pub max_surge: u32,
    /// Pods below `replicas` while it rolls.
    pub max_unavailable: u32,
    pub min_ready_s: u32,
    /// `hostNetwork`: the pods have their node's addresses.
    pub host_network: bool,
    /// A StatefulSet's pods with a smaller number keep their revision.
    pub partition: u32,
    /// `terminationGracePeriodSeconds`
    pub grace_s: u32,
    /// `lifecycle.preStop.sleep.seconds`; absent: no such preStop.
    pub pre_stop_sleep_s: Option<u32>,
    /// `lifecycle.preStop.exec.command`
    pub pre_stop_exec: Option<Vec<String>>,
    /// `lifecycle.preStop.httpGet.path`
    pub pre_stop_http: Option<String>,
    /// `lifecycle.stopSignal`
    pub stop_signal: Option<String>,
    /// GET /ready; None: no probe, Ready as soon as it runs.
    #[serde(deserialize_with = "probe_or_none")]
    pub readiness: Option<Probe>,
    /// GET /healthz
    pub liveness: Option<Probe>,
    /// GET /healthz
    pub startup: Option<Probe>,
    /// `resources.limits.memory`
    pub memory_limit_mib: Option<u32>,
    /// The first wait of a CrashLoopBackOff.
    pub crash_back_off_ms: u32,
    /// A second container in each pod.
    pub sidecar: Option<Sidecar>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            kind: Kind::Deployment,
            replicas: 3,
            strategy: Strategy::RollingUpdate,
            max_surge: 1,
            max_unavailable: 0,
            min_ready_s: 0,
            host_network: false,
            partition: 0,
            grace_s: 30,
            pre_stop_sleep_s: None,
            pre_stop_exec: None,
            pre_stop_http: None,
            stop_signal: None,
            readiness: Some(Probe::default()),
            liveness: None,
            startup: None,
            memory_limit_mib: None,
            crash_back_off_ms: 10_000,
            sidecar: None,
        }
    }
}

/// Who owns the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Deployment,
    /// Ordered, one after the other.
    StatefulSet,
    /// One pod for each node; `maxUnavailable` 1.
    DaemonSet,
    /// Pods that run once.
    Job,
    /// Bare pods: nobody makes new ones.
    Pods,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    RollingUpdate,
    Recreate,
}

/// A probe; Kubernetes counts it in whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    pub initial_delay_s: u32,
    pub period_s: u32,
    pub timeout_s: u32,
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of a liveness or startup probe; absent: the pod's.
    pub grace_s: Option<u32>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            initial_delay_s: 0,
            period_s: 1,
            timeout_s: 1,
            failure_threshold: 3,
            grace_s: None,
        }
    }
}

/// A second container in each pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sidecar {
    /// An init container with restartPolicy Always: starts before the others and ends after them.
    pub native: bool,
    pub app: App,
}

/// Another workload of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Its pods are labelled `app=<name>`.
    pub name: String,
    #[serde(default)]
    pub workload: Workload,
    #[serde(default)]
    pub app: App,
}

/// A probe's settings, or the word `none`.
fn probe_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Probe>, D::Error> {
    struct ProbeOrNone;

    impl<'de> Visitor<'de> for ProbeOrNone {
        type Value = Option<Probe>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a probe's settings, or `none`")
        }

        fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
            match word {
                "none" => Ok(None),
                other => Err(E::invalid_value(Unexpected::Str(other), &self)),
            }
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Probe::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    from.deserialize_any(ProbeOrNone)
}
