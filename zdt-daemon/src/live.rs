//! What a running zdt says of itself over HTTP, for both ends: the daemon writes it, `zdt watch` and `zdt gate` read it.

use serde::{Deserialize, Serialize};

use crate::{input::Wall, verdict::UnderWay};

/// Headers of `/api/v1/outputs`: which daemon, how many outputs before these are gone, and what to ask for next.
pub const BOOT: &str = "zdt-boot";
pub const MISSED: &str = "zdt-missed";
pub const NEXT: &str = "zdt-next";
pub const MORE: &str = "zdt-more";

/// `/api/v1/state`, and the event `state`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub node: String,
    pub version: String,
    /// Another one after each start of the daemon: sequence numbers begin anew.
    pub boot: String,
    /// The daemon's wall clock when it looked.
    pub now: Wall,
    pub health: Health,
    /// Not over yet, the newest first.
    pub under_way: Vec<UnderWay>,
}

/// Whether the daemon sees everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Why it does not see everything now; empty: it does.
    pub blind: Vec<String>,
    pub hooks_attached: u64,
    pub hooks_missing: u64,
    /// Pieces of information lost since it started.
    pub events_lost: u64,
    /// Interruptions of a watch.
    pub watch_gaps: u64,
}
