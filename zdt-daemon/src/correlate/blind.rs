//! What the API server could not tell: while a watch is interrupted, what fails is not judged, for the watch will say what
//! happened meanwhile; and what it says then is late, so it is not taken for the time when it happened.

use std::collections::BTreeMap;

use super::history::PodHistory;
use crate::input::{Deletion, Ktime, Start};

/// `deletionTimestamp` has no fraction of a second (metav1.Time).
const TIMESTAMP_MS: u64 = 1_000;

/// The watches that are interrupted, and since when.
#[derive(Debug, Default)]
pub(super) struct Blind {
    broken: BTreeMap<String, Ktime>,
    /// All that were, since none was: first since when.
    all: BTreeMap<String, Ktime>,
}

/// A time in which something was not seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    pub of: Vec<String>,
    pub from: Ktime,
}

impl Blind {
    pub(super) fn broke(&mut self, resource: &str, since: Ktime) {
        for all in [&mut self.broken, &mut self.all] {
            all.entry(resource.to_owned()).or_insert(since);
        }
    }

    /// Returns what was not seen, once nothing is missing any more.
    pub(super) fn whole(&mut self, resource: &str, since: Ktime) -> Option<Unseen> {
        self.all.entry(resource.to_owned()).or_insert(since);
        self.broken.remove(resource);
        if self.broken.is_empty() { self.take() } else { None }
    }

    /// It was not interrupted after all. Returns what was not seen of others, once nothing is missing any more.
    pub(super) fn not_broken(&mut self, resource: &str) -> Option<Unseen> {
        self.broken.remove(resource)?;
        self.all.remove(resource);
        if self.broken.is_empty() { self.take() } else { None }
    }

    /// What is not seen still, at the end.
    pub(super) fn take(&mut self) -> Option<Unseen> {
        let all = std::mem::take(&mut self.all);
        let from = all.values().min().copied()?;
        Some(Unseen {
            of: all.into_keys().collect(),
            from,
        })
    }

    /// Since when this watch has been interrupted; what comes through it is late.
    pub(super) fn late(&self, resource: &str) -> Option<Ktime> {
        self.broken.get(resource).copied()
    }

    /// Up to when flows that are due are judged: what fails while a watch is interrupted waits for what it will tell. One that
    /// is interrupted for longer than `hold_ms` is no longer waited for.
    pub(super) fn judged_to(&self, now: Ktime, hold_ms: u64) -> Ktime {
        let since = self.broken.values().min();
        since
            .filter(|s| s.plus_ms(hold_ms) > now)
            .map_or(now, |s| now.min(*s))
    }
}

/// When a pod was deleted, of which the watch told only at `at`, after it had been interrupted at `since`: by the API server's
/// own time, which has whole seconds, and by the runtime's signal, which follows the deletion. Without either, the earliest time
/// that it may have been.
pub(super) fn deleted(
    pod: &PodHistory,
    (since, at): (Ktime, Ktime),
    deletion: Option<Deletion>,
    start: Option<&(Ktime, Start)>,
) -> Ktime {
    let told = deletion.zip(start).and_then(|(d, start)| by_api(d, start));
    let (earliest, latest) = match told {
        Some(told) => (
            told.minus_ms(TIMESTAMP_MS).clamp(since, at),
            told.clamp(since, at),
        ),
        None => (since, at),
    };
    let signals = pod.containers.values().filter_map(|c| {
        let stops = |s: &&super::SignalSeen| s.from_runtime() && s.asks_to_stop() && s.at <= at;
        c.signals.iter().rfind(stops).map(|s| s.at)
    });
    let signal = signals.max().filter(|s| *s >= earliest);
    signal.map_or(earliest, |s| s.min(latest))
}

/// The kubelet's last deletion has no grace and comes when all is over: it does not say when the first one was.
fn by_api(deletion: Deletion, (at, start): &(Ktime, Start)) -> Option<Ktime> {
    let grace_ms = deletion.grace_s.checked_mul(1_000).filter(|ms| *ms > 0)?;
    let ms = deletion
        .timestamp
        .0
        .checked_sub(grace_ms)?
        .checked_sub(start.wall.0)?;
    Some(if ms < 0 {
        at.minus_ms(ms.unsigned_abs())
    } else {
        // The timestamp is rounded down.
        at.plus_ms(ms.unsigned_abs()).plus_ms(TIMESTAMP_MS)
    })
}
