//! What a controller still has to look at, and when: a work queue with a due time for each key.

use std::collections::BTreeMap;

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
