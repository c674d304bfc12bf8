//! What happens while the client runs.

use serde::{Deserialize, Serialize};

use super::{App, Workload};

/// Something that happens while the client runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Milliseconds after the client's start.
    pub at_ms: u64,
    #[serde(rename = "do")]
    pub what: Step,
    /// Name of the workload that it is done to; absent: `web`.
    #[serde(default)]
    pub on: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A new pod template (`kubectl rollout restart`).
    RollingUpdate,
    /// The same with the strategy Recreate.
    Recreate,
    /// `kubectl apply` of a changed manifest.
    Apply(Box<Manifest>),
    /// To this many replicas.
    Scale(u32),
    /// The same, by a HorizontalPodAutoscaler.
    Autoscale(u32),
    /// The first pod in the order of names, with its grace period.
    DeletePod,
    /// The same with grace period 0.
    ForceDeletePod,
    /// Through the Eviction API.
    EvictPod,
    /// By the scheduler, for a pod of higher priority.
    PreemptPod,
    /// SIGTERM to the first pod's container, by hand on the node: no object changes.
    RestartContainer,
    /// Cordons the first node and evicts every pod of the workloads on it.
    DrainNode,
    UncordonNode,
    /// The Service selects the pods of this workload from now on.
    SwitchSelector(String),
}

/// What `apply` changes. A part that is absent stays as it was applied last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Whole: what it leaves out has its default.
    pub workload: Option<Workload>,
    /// Whole, too.
    pub app: Option<App>,
}
