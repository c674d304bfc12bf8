//! How a change of one pod reached one node's rules and its clients, stage by stage.

use serde::{Deserialize, Serialize};

use crate::input::{Ktime, Wall, Workload};

/// What happened to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is to get no more new connections.
    Removal,
    /// It may get new connections from now on.
    Addition,
}

/// What the milliseconds of a [`Propagation`] are counted from, as this node saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// The watch delivered the pod with a deletionTimestamp. Pods of this node.
    Deletion,
    /// The watch delivered the pod as Ready for the first time. Pods of this node.
    Ready,
    /// The endpoint slice said that it is terminating, or ready. Pods of other nodes, which this node does not watch; the
    /// slice follows the pod within 10 ms (measured).
    Slice,
}

/// How long this node took to let go of one terminating pod, or to take up one new pod. Milliseconds since `at`; a stage may
/// come before it, and then is negative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Propagation {
    /// Where it was seen.
    pub node: String,
    pub namespace: String,
    /// None: its owner is not known on this node.
    pub workload: Option<Workload>,
    pub pod: String,
    /// Where the pod runs, if that is another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_node: Option<String>,
    pub change: Change,
    pub since: Since,
    pub at: Ktime,
    pub wall: Wall,
    /// The slice said terminating, or it left the slice; the slice said ready.
    pub slice_ms: Option<f64>,
    /// The rules no longer sent it new connections (the last of its addresses and ports); they began to (the first). None: not
    /// yet, or these are not rules that zdt can read.
    pub rules_ms: Option<f64>,
    /// The last new connection that this node sent to it; the first one. None: none was seen.
    pub connection_ms: Option<f64>,
    /// Its listener closed, or its network ended. None for pods of other nodes and for additions.
    pub stopped_serving_ms: Option<f64>,
    /// What the pod itself did. Only pods of this node.
    #[serde(flatten)]
    pub own: PodSteps,
}

/// The steps of a pod's own end or beginning, as far as they were seen. Milliseconds since [`Propagation::at`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodSteps {
    /// The first signal that asked it to stop (SIGTERM, or its image's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_ms: Option<f64>,
    /// The first of its listeners closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_closed_ms: Option<f64>,
    /// The last process of its containers exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exited_ms: Option<f64>,
    /// Nothing answers on its address any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_down_ms: Option<f64>,
    /// Of an addition: a listener on a port of its service was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening_ms: Option<f64>,
}

impl Propagation {
    /// The stages that are known, by name, in the order in which they should come.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let (rules, connection) = match self.change {
            Change::Removal => ("rules", "last-connection"),
            Change::Addition => ("first-rule", "first-connection"),
        };
        let slice = match self.change {
            Change::Removal => "slice",
            Change::Addition => "slice-ready",
        };
        [
            (slice, self.slice_ms),
            (rules, self.rules_ms),
            (connection, self.connection_ms),
            ("stopped-serving", self.stopped_serving_ms),
        ]
        .into_iter()
        .filter_map(|(stage, ms)| Some((stage, ms?)))
    }
}
