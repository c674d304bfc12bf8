//! What the rule watcher lost, skipped or did not understand, counted since its start (invariant I7).

use crate::netfilter::losses::{Counts, Loss};

/// Counters; what `foreign`, `resyncs` and `interrupted` count costs nothing. What the others mean: [`Loss`].
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
    /// Generations that emptied the chains through which every service is reached.
    pub flushed: u64,
    /// Translations in service chains that this decoder does not follow.
    pub unsupported: u64,
    /// Edges refused because the rule set is too large.
    pub refused: u64,
    /// Messages about other tools' tables, skipped.
    pub foreign: u64,
    /// Translations that other tools added or removed.
    pub redirected: u64,
    /// Dumps read to recover.
    pub resyncs: u64,
    /// Parts of dumps that were read again because a writer came between.
    pub interrupted: u64,
}

impl Losses {
    /// As losses that the correlator is told of.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (loss, count) in [
            (Loss::Overrun, self.overruns),
            (Loss::Gap, self.gaps),
            (Loss::Unparsed, self.unparsed),
            (Loss::TableDeleted, self.tables_deleted),
            (Loss::Flushed, self.flushed),
            (Loss::Unsupported, self.unsupported),
            (Loss::TooLarge, self.refused),
            (Loss::OtherTool, self.redirected),
        ] {
            counts.add(loss, count);
        }
        counts
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            overruns,
            gaps,
            unparsed,
            tables_deleted,
            flushed,
            unsupported,
            refused,
            foreign,
            redirected,
            resyncs,
            interrupted,
        } = other;
        self.overruns += overruns;
        self.gaps += gaps;
        self.unparsed += unparsed;
        self.tables_deleted += tables_deleted;
        self.flushed += flushed;
        self.unsupported += unsupported;
        self.refused += refused;
        self.foreign += foreign;
        self.redirected += redirected;
        self.resyncs += resyncs;
        self.interrupted += interrupted;
    }
}
