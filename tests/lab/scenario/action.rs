//! What happens while the client runs.

use serde::{Deserialize, Serialize};

use super::{App, Workload};
use crate::api::fault::{Asked, Fault};

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
    /// The Deployment is deleted, and created again with a new template (`kubectl replace --force`).
    Replace,
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
    /// No new pod goes to the first node: it stays Pending.
    CordonNode,
    UncordonNode,
    /// The first node's conntrack table is full for so many seconds.
    FillConntrack(u32),
    /// The first node has so many ports to masquerade with.
    MasqueradePorts(u16),
    /// The proxy reads its configuration again; nothing in it changed for this workload.
    ReloadProxy,
    /// The proxy sends everything to this workload from now on.
    SwitchBackend(String),
    /// The API server fails for those who watch it.
    Api(ApiFault),
    /// The first node's daemon ends, and another one starts.
    RestartDaemon(Restart),
    /// The first node's daemon does not run for so many milliseconds.
    PauseDaemon(u64),
    /// The Service selects the pods of this workload from now on.
    SwitchSelector(String),
}

impl std::fmt::Display for Step {
    /// The schema's word, with what it is done to where that is short.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RollingUpdate => f.write_str("rolling-update"),
            Self::Recreate => f.write_str("recreate"),
            Self::Replace => f.write_str("replace"),
            Self::Apply(_) => f.write_str("apply"),
            Self::Scale(replicas) => write!(f, "scale: {replicas}"),
            Self::Autoscale(replicas) => write!(f, "autoscale: {replicas}"),
            Self::DeletePod => f.write_str("delete-pod"),
            Self::ForceDeletePod => f.write_str("force-delete-pod"),
            Self::EvictPod => f.write_str("evict-pod"),
            Self::PreemptPod => f.write_str("preempt-pod"),
            Self::RestartContainer => f.write_str("restart-container"),
            Self::DrainNode => f.write_str("drain-node"),
            Self::CordonNode => f.write_str("cordon-node"),
            Self::UncordonNode => f.write_str("uncordon-node"),
            Self::FillConntrack(seconds) => write!(f, "fill-conntrack: {seconds}"),
            Self::MasqueradePorts(ports) => write!(f, "masquerade-ports: {ports}"),
            Self::ReloadProxy => f.write_str("reload-proxy"),
            Self::SwitchBackend(to) => write!(f, "switch-backend: {to}"),
            Self::Api(fault) => write!(f, "api: {}", fault.fault.name()),
            Self::RestartDaemon(how) => write!(f, "restart-daemon: {}", how.signal.name()),
            Self::PauseDaemon(ms) => write!(f, "pause-daemon: {ms}"),
            Self::SwitchSelector(to) => write!(f, "switch-selector: {to}"),
        }
    }
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

/// How the API server fails, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiFault {
    pub fault: Fault,
    /// Absent: what happens in a moment.
    #[serde(default)]
    pub for_ms: u64,
    /// Which requests are answered so.
    #[serde(default)]
    pub to: Asked,
}

/// How a daemon is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    pub signal: Ending,
    /// From its end to the start of the next one.
    #[serde(default)]
    pub away_ms: u64,
}

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    Sigterm,
    Sigkill,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigterm => "sigterm",
            Self::Sigkill => "sigkill",
        }
    }
}
