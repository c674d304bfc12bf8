//! What has been counted: a rollout's summary comes again when a late verdict changes it, and counts once.

use std::collections::{BTreeSet, VecDeque};

use crate::input::Ktime;

/// As many as the correlator keeps pods; a summary that comes again later than that many others counts twice.
const REMEMBERED: usize = 16_384;

/// Namespace, what was counted in it, and the beginning of the rollout.
type Key = (String, String, Ktime);

#[derive(Debug, Default)]
pub(in crate::sink) struct Counted {
    keys: BTreeSet<Key>,
    order: VecDeque<Key>,
}

impl Counted {
    /// Whether this is the first time.
    pub(in crate::sink) fn first(&mut self, namespace: &str, what: &str, began: Ktime) -> bool {
        let key = (namespace.to_owned(), what.to_owned(), began);
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_thing_counts_once_and_memory_is_bounded() {
        let mut counted = Counted::default();
        assert!(counted.first("n", "deployment/web", Ktime(1)));
        assert!(!counted.first("n", "deployment/web", Ktime(1)));
        assert!(counted.first("n", "deployment/web", Ktime(2)), "another rollout");
        for n in 0..2 * REMEMBERED as u64 {
            counted.first("n", "deployment/web", Ktime(100 + n));
        }
        assert_eq!(counted.keys.len(), REMEMBERED);
        assert_eq!(counted.order.len(), REMEMBERED);
    }
}
