//! A service that selects other pods than before, and what stayed where it was.

use serde::{Deserialize, Serialize};

use crate::input::{Ktime, NsName, Wall};

/// Said once, when the endpoint slices have had the time to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorSwitch {
    /// Where it was seen.
    pub node: String,
    pub service: NsName,
    pub at: Ktime,
    pub wall: Wall,
    /// Pods that the service let go of, and that nobody had deleted.
    pub left: usize,
    /// Endpoints that are ready now.
    pub ready: usize,
    /// Established connections of this node's conntrack that led to those pods when they left: they stay there until they
    /// end. None: nobody counted them.
    pub stayed: Option<u64>,
}
