//! What a controller still has to look at, and when: a work queue with a due time for each key, and an inbox that
//! delivers late but in order.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

/// A key waits once, with its earliest due time. Keys come out in the order of their due times.
#[derive(Debug)]
pub struct Queue<K> {
    due: BTreeMap<K, Instant>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { due: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Queue<K> {
    pub fn add(&mut self, key: K, at: Instant) {
        let due = self.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    /// The next due key; waits for ever while the queue is empty. Cancel-safe: a key leaves only when it is returned.
    pub async fn next(&mut self) -> K {
        let Some((key, at)) = self.due.iter().min_by_key(|(_, at)| **at) else {
            return std::future::pending().await;
        };
        let (key, at) = (key.clone(), *at);
        tokio::time::sleep_until(at).await;
        self.due.remove(&key);
        key
    }
}

/// Changes that a controller hears of late. Like a watch it keeps their order: one with a short delay waits for those
/// before it.
#[derive(Debug)]
pub struct Inbox<T> {
    due: VecDeque<(Instant, T)>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { due: VecDeque::new() }
    }
}

impl<T> Inbox<T> {
    pub fn add(&mut self, change: T, at: Instant) {
        let last = self.due.back().map_or(at, |(last, _)| *last);
        self.due.push_back((at.max(last), change));
    }

    /// The next due change; waits for ever while there is none. Cancel-safe.
    pub async fn next(&mut self) -> T {
        if let Some((at, _)) = self.due.front() {
            tokio::time::sleep_until(*at).await;
        }
        match self.due.pop_front() {
            Some((_, change)) => change,
            None => std::future::pending().await,
        }
    }
}
