//! What happens while the client runs.

use serde::{Deserialize, Serialize};

/// Something that happens while the client runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Milliseconds after the client's start.
    pub at_ms: u64,
    #[serde(rename = "do")]
    pub what: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A new pod template.
    RollingUpdate,
    /// Deployment to this many replicas.
    Scale(u32),
    /// The first pod in the order of names, with its grace period.
    DeletePod,
    /// The same with grace period 0.
    ForceDeletePod,
}
