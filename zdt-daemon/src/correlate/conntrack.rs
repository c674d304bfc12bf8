//! What this node's conntrack counted, over time: what it dropped, could not insert, and how full it was.

use std::collections::VecDeque;

use crate::input::{ConntrackState, Ktime};

/// Most readings kept: the last quarter of an hour at one a second.
const MAX_READINGS: usize = 1_024;

/// A reading counts from the one before it, which may not have been told: conntrack is read at least so often.
const LONGEST_READING_MS: u64 = 10_000;

/// A full table, in 20ths: what is early dropped and what ends keeps it just below its bound.
const FULL_20THS: u64 = 19;

#[derive(Debug)]
struct Reading {
    from: Ktime,
    to: Ktime,
    state: ConntrackState,
}

/// The counters of the readings that touch a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// When the last of them was read.
    pub read: Ktime,
    pub drop: u64,
    pub insert_failed: u64,
    pub invalid: u64,
    /// The fullest: entries and the most there may be. 0: not known.
    pub entries: u64,
    pub max: u64,
}

impl Counted {
    /// The table had no room.
    pub fn full(&self) -> bool {
        self.max > 0 && self.entries * 20 >= self.max * FULL_20THS
    }
}

#[derive(Debug, Default)]
pub struct Conntrack {
    readings: VecDeque<Reading>,
}

impl Conntrack {
    pub(super) fn read(&mut self, at: Ktime, state: ConntrackState) {
        let before = self.readings.back().map_or(Ktime::default(), |r| r.to);
        let from = before.max(at.minus_ms(LONGEST_READING_MS));
        if self.readings.len() >= MAX_READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(Reading { from, to: at, state });
    }

    /// What was counted in the readings that `from` to `to` lies in. None: nothing was read then.
    pub fn counted(&self, from: Ktime, to: Ktime) -> Option<Counted> {
        let mut before = None;
        let mut sum: Option<Counted> = None;
        for reading in &self.readings {
            let state = &reading.state;
            if reading.from > to {
                break;
            }
            if reading.to < from {
                before = Some(reading);
                continue;
            }
            // How full it was is known at the ends of a reading only, and at the first one's beginning.
            let before = before.take().filter(|b| b.to == reading.from).map(|b| &b.state);
            let fullest = before.filter(|b| b.entries > state.entries).unwrap_or(state);
            let sum = sum.get_or_insert_default();
            sum.read = reading.to;
            sum.drop += state.drop;
            sum.insert_failed += state.insert_failed;
            sum.invalid += state.invalid;
            if fullest.entries >= sum.entries {
                sum.entries = fullest.entries;
                sum.max = fullest.max;
            }
        }
        sum
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        while self.readings.front().is_some_and(|r| r.to < before) {
            self.readings.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Ktime {
        Ktime(s * 1_000_000_000)
    }

    #[test]
    fn a_count_belongs_to_the_time_since_the_reading_before() {
        let mut conntrack = Conntrack::default();
        for (s, drop) in [(20, 1), (21, 2), (22, 4)] {
            let state = ConntrackState {
                drop,
                ..ConntrackState::default()
            };
            conntrack.read(second(s), state);
        }
        let drop = |from, to| conntrack.counted(second(from), second(to)).map(|c| c.drop);
        assert_eq!(drop(9, 9), None, "read at least every 10 s");
        assert_eq!(drop(11, 11), Some(1));
        assert_eq!(drop(22, 22), Some(4));
        assert_eq!(drop(19, 30), Some(7));
        assert_eq!(drop(23, 30), None, "not yet read");
    }

    #[test]
    fn a_table_that_was_full_when_the_reading_began_was_full_in_it() {
        let mut conntrack = Conntrack::default();
        for (s, entries) in [(20, 1_000), (21, 7), (22, 7)] {
            let state = ConntrackState {
                entries,
                max: 1_000,
                ..ConntrackState::default()
            };
            conntrack.read(second(s), state);
        }
        let entries = |ms: u64| {
            let at = Ktime(ms * 1_000_000);
            conntrack.counted(at, at).map(|c| c.entries)
        };
        assert_eq!(entries(20_500), Some(1_000));
        assert_eq!(entries(21_500), Some(7));
    }

    #[test]
    fn a_table_is_full_near_its_bound_and_never_without_one() {
        let counted = |entries, max| Counted {
            entries,
            max,
            ..Counted::default()
        };
        assert!(counted(950, 1_000).full());
        assert!(!counted(940, 1_000).full());
        assert!(!counted(0, 0).full());
    }
}
