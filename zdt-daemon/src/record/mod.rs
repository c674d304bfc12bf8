//! The input stream as a file: JSON lines, versioned, replayable to the same verdicts.
//!
//! The first line says what the file is, each line after it is one [`crate::input::Input`]:
//!
//! ```text
//! {"format":"zdt-record","version":1,"zdt":"0.1.0"}
//! {"at":6704375400389,"what":"start",…}
//! ```
//!
//! A change that an older zdt would misread raises [`VERSION`]; an added optional field does not.

mod read;
mod write;
mod writing;

use serde::{Deserialize, Serialize};

pub use read::{MAX_LINE_BYTES, ReadError, Reader};
pub use write::Recorder;
pub use writing::Writing;

/// Value of `format` in the first line.
pub const FORMAT: &str = "zdt-record";

/// Newest format that this zdt reads, and the one it writes.
pub const VERSION: u32 = 1;

/// The first line of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: String,
    pub version: u32,
    /// Version of the zdt that wrote it.
    pub zdt: String,
}

impl Head {
    /// What this zdt writes.
    pub fn current() -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            zdt: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
