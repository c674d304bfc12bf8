//! What the rule watcher lost, skipped or did not understand, counted since its start (invariant I7).

/// Counters; all but `foreign` mean that a route may have been unknown for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The kernel had no room for notifications (ENOBUFS).
    pub overruns: u64,
    /// Generations whose notifications never came.
    pub gaps: u64,
    /// Messages that could not be decoded.
    pub unparsed: u64,
    /// Tables of kube-proxy that somebody deleted.
    pub tables_deleted: u64,
    /// Translations in service chains that this decoder does not follow.
    pub unsupported: u64,
    /// Edges refused because the rule set is too large.
    pub refused: u64,
    /// Messages about other tools' tables, skipped.
    pub foreign: u64,
    /// Dumps read to recover.
    pub resyncs: u64,
    /// Parts of dumps that were read again because a writer came between.
    pub interrupted: u64,
}

impl Losses {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            overruns,
            gaps,
            unparsed,
            tables_deleted,
            unsupported,
            refused,
            foreign,
            resyncs,
            interrupted,
        } = other;
        self.overruns += overruns;
        self.gaps += gaps;
        self.unparsed += unparsed;
        self.tables_deleted += tables_deleted;
        self.unsupported += unsupported;
        self.refused += refused;
        self.foreign += foreign;
        self.resyncs += resyncs;
        self.interrupted += interrupted;
    }
}
