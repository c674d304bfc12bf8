//! What may be forgotten from some time on: so that a tick costs what is due by then, not what is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::input::Ktime;

/// Names of what has gone, each once, in the order of its time. Who takes one looks whether all of it may be forgotten, and adds
/// again what stays.
#[derive(Debug)]
pub(super) struct Passed<K> {
    by_time: BTreeSet<(Ktime, K)>,
    times: BTreeMap<K, Ktime>,
}

impl<K> Default for Passed<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            times: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord> Passed<K> {
    /// Of several times the first counts.
    pub fn add(&mut self, at: Ktime, what: K) {
        if let Some(before) = self.times.get_mut(&what) {
            if *before <= at {
                return;
            }
            self.by_time.remove(&(*before, what.clone()));
            *before = at;
        } else {
            self.times.insert(what.clone(), at);
        }
        self.by_time.insert((at, what));
    }

    /// The next one that is older than `before`.
    pub fn take(&mut self, before: Ktime) -> Option<K> {
        if self.by_time.first()?.0 >= before {
            return None;
        }
        let (_, what) = self.by_time.pop_first()?;
        self.times.remove(&what);
        Some(what)
    }
}

/// The time of the oldest entry of a table, or an earlier one: until it is due there is nothing to look through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest(Ktime);

impl Default for Oldest {
    /// Of a table that has none.
    fn default() -> Self {
        Self(Ktime(u64::MAX))
    }
}

impl Oldest {
    pub fn note(&mut self, at: Ktime) {
        self.0 = self.0.min(at);
    }

    /// Whether something may be as old as `at`. Then it counts as looked through: what stays is to be noted again.
    pub fn take(&mut self, at: Ktime) -> bool {
        let due = self.0 <= at;
        if due {
            *self = Self::default();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_comes_once_in_the_order_of_its_first_time() {
        let mut passed = Passed::default();
        for (at, what) in [(30, 'c'), (10, 'a'), (25, 'b'), (40, 'a'), (20, 'b'), (25, 'b')] {
            passed.add(Ktime(at), what);
        }
        assert_eq!(passed.take(Ktime(10)), None, "10 is not older than 10");
        let taken: Vec<char> = std::iter::from_fn(|| passed.take(Ktime(30))).collect();
        assert_eq!(taken, ['a', 'b']);
        passed.add(Ktime(50), 'a');
        let taken: Vec<char> = std::iter::from_fn(|| passed.take(Ktime(51))).collect();
        assert_eq!(taken, ['c', 'a']);
        assert!(passed.times.is_empty());
    }

    #[test]
    fn a_table_is_looked_through_when_its_oldest_is_due() {
        let mut oldest = Oldest::default();
        assert!(!oldest.take(Ktime(1_000)), "there is none");
        oldest.note(Ktime(20));
        oldest.note(Ktime(10));
        assert!(!oldest.take(Ktime(9)));
        assert!(oldest.take(Ktime(10)));
        oldest.note(Ktime(20));
        assert!(!oldest.take(Ktime(19)) && oldest.take(Ktime(21)));
    }
}
