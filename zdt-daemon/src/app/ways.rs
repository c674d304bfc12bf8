//! Ways out that need a task of their own, and how long they may take at the end.

use std::{fs::File, time::Duration};

use super::Serving;
use crate::{
    cluster::Telling,
    record::Writing,
    sink::{otlp::Exporting, queued::Printing},
};

/// Time for the Events, the records and the lines of the last summaries; the kubelet waits 15 s in all.
pub(super) const LAST: Duration = Duration::from_secs(4);

/// None: not wanted.
#[derive(Default)]
pub struct Ways {
    pub serving: Option<Serving>,
    pub events: Option<Telling>,
    pub otlp: Option<Exporting>,
    pub printing: Option<Printing>,
    /// The record's file.
    pub writing: Option<Writing<File>>,
}
