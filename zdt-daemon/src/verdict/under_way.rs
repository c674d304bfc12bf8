//! A rollout that is not over yet, as one node sees it now.

use serde::{Deserialize, Serialize};

use super::{Revision, Trigger};
use crate::input::{Ktime, Wall, Workload};

/// What a summary will say more of once it is over. It is no [`super::Output`]: it is asked for, and the next one replaces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderWay {
    pub node: String,
    pub namespace: String,
    pub workload: Workload,
    pub trigger: Trigger,
    pub from: Option<Revision>,
    pub to: Option<Revision>,
    pub began: Ktime,
    pub wall: Wall,
    /// Pods of this node.
    pub here: PodCount,
    /// Pods of other nodes, as the endpoint slices told.
    pub elsewhere: PodCount,
    /// Replicas that ReplicaSets of older templates shall still have, on all nodes. None: it is no Deployment, or there is one
    /// template only.
    pub old_wanted: Option<u64>,
    /// The same of the newest template.
    pub new_wanted: Option<u64>,
    /// Failed requests that are the rollout's or unexplained, so far.
    pub failed: usize,
    pub unexplained: usize,
    pub not_the_rollout: usize,
    /// Pieces of information lost since it began.
    pub events_lost: u64,
    /// By cause, most first.
    pub causes: Vec<(String, usize)>,
    /// This node has summed up its part, and other nodes go on.
    pub summed_up: bool,
}

/// How far the pods are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCount {
    /// Told to end.
    pub ended: usize,
    /// Of these, those that are gone.
    pub gone: usize,
    /// Of older templates and not told to end. Only pods of this node.
    pub old: usize,
    /// Of the newest template and not told to end. Only pods of this node.
    pub new: usize,
    /// Of these, those that are Ready.
    pub new_ready: usize,
}
