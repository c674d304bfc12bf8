//! Times in which something was not seen.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::input::{Ktime, Wall};

/// What came before the first lists were in; else a gap is named after the resource whose watch was interrupted.
pub const BEFORE_START: &str = "start";

/// What came after zdt was told to end, and would have been waited for.
pub const AFTER_END: &str = "end";

/// Before the name of what this kernel, or the rights that zdt has, do not tell.
pub const NOT_TOLD: &str = "hook ";

/// A time of which something is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// `start`, `end`, `pods`, `endpointslices`, `services`, `replicasets`; `hook mark_victim` and the like for what is not told
    /// at all.
    pub of: String,
    pub from: Ktime,
    /// Where it is not over yet: when that was said.
    pub to: Ktime,
}

impl fmt::Display for Gap {
    /// For sentences: "the watch of pods was interrupted for 20.3 s".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of == BEFORE_START {
            return f.write_str("zdt had just started");
        }
        if self.of == AFTER_END {
            return f.write_str("zdt was told to end before all was there");
        }
        if let Some(hook) = self.of.strip_prefix(NOT_TOLD) {
            return write!(f, "{hook} is not told on this node (`zdt doctor` says why)");
        }
        let seconds = self.to.ms_since(self.from) / 1000.0;
        write!(f, "the watch of {} was interrupted for {seconds:.1} s", self.of)
    }
}

/// Something was not seen for a time. What failed then, or was ended then, is marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSeen {
    pub node: String,
    /// As in [`Gap`].
    pub of: Vec<String>,
    /// 0: since ever.
    pub from: Ktime,
    pub to: Ktime,
    /// Of `to`.
    pub wall: Wall,
}
