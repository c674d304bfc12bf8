//! The changes of one kind as the lab's own tasks follow them, in process.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::entry::{Entry, Object};
use super::store::LogEntry;

/// One change of one object, with its new (or last) state.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<K> {
    Applied(K),
    Deleted(K),
}

/// The changes of one kind, from [`Store::watch`].
#[derive(Debug)]
pub struct Watch<K> {
    existing: VecDeque<Arc<Entry>>,
    changes: mpsc::UnboundedReceiver<Arc<LogEntry>>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Object> Watch<K> {
    pub(super) fn new(
        existing: VecDeque<Arc<Entry>>,
        changes: mpsc::UnboundedReceiver<Arc<LogEntry>>,
    ) -> Self {
        Self {
            existing,
            changes,
            kind: PhantomData,
        }
    }

    /// The next change; `None` once the store is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change<K>> {
        self.next_timed().await.map(|(_, change)| change)
    }

    /// The next change and when it happened (now, for what existed before the watch). Reactions that are due a delay
    /// after the change keep their order also when this task was late to hear of it.
    pub async fn next_timed(&mut self) -> Option<(Instant, Change<K>)> {
        loop {
            if let Some(entry) = self.existing.pop_front() {
                if let Some(object) = entry.typed() {
                    return Some((Instant::now(), Change::Applied(object)));
                }
                continue;
            }
            let event = self.changes.recv().await?;
            let change = match (&event.after, &event.before) {
                (Some(entry), _) => entry.typed().map(Change::Applied),
                (None, Some(entry)) => entry.typed().map(Change::Deleted),
                (None, None) => None,
            };
            if let Some(change) = change {
                return Some((event.at, change));
            }
        }
    }
}
