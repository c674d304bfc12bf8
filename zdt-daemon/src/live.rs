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
    /// When it started, and so began to see.
    pub started: Wall,
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
    /// When it last lost something or was interrupted.
    pub last_lost: Option<Wall>,
}

impl State {
    /// Why something may have been missed that happened at or after `from`.
    pub fn unseen_since(&self, from: Wall) -> Option<String> {
        if self.started > from {
            return Some("it was started after the rollout had begun".to_owned());
        }
        let lost = self.health.last_lost.is_some_and(|at| at >= from);
        lost.then(|| {
            "it lost events, or its watch of the API was interrupted, since the rollout began".to_owned()
        })
    }
}
