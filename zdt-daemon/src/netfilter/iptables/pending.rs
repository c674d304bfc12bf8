//! Which table is to be read when: replacements that come close together share one read.

use super::Family;
use crate::input::{Ktime, Observation};

/// A read starts so long after the replacement was reported, in milliseconds. The kernel half says one table's
/// replacement once a millisecond at most (`zdt_common::TABLE_QUIET_NS`), so what it left out is in force by then.
pub const SETTLE_MS: u64 = 2;
const _: () = assert!(SETTLE_MS * 1_000_000 > zdt_common::TABLE_QUIET_NS);

/// A read that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub family: Family,
    /// When the replacement was reported.
    pub at: Ktime,
    /// `comm` of the process that replaced the table.
    pub by: Option<String>,
}

/// Replacements that no read has begun for yet: one a family.
#[derive(Debug, Default)]
pub struct Pending {
    v4: Option<Replacement>,
    v6: Option<Replacement>,
    shared: u64,
}

#[derive(Debug)]
struct Replacement {
    first: Ktime,
    last: Ktime,
    tgid: u32,
    by: String,
}

impl Pending {
    /// Takes an observation in; what is no replacement of `nat` is ignored.
    pub fn observe(&mut self, at: Ktime, observation: &Observation) {
        let Observation::TableReplaced {
            family,
            table,
            by,
            tgid,
            ..
        } = observation
        else {
            return;
        };
        if table != super::TABLE && !table.is_empty() {
            return;
        }
        let place = match family {
            4 => &mut self.v4,
            6 => &mut self.v6,
            _ => return,
        };
        match place {
            // More of the same: freeing a large table takes milliseconds.
            Some(same) if same.tgid == *tgid && at <= same.last.plus_ms(SETTLE_MS) => same.last = at,
            waiting => {
                self.shared += u64::from(waiting.is_some());
                *waiting = Some(Replacement {
                    first: at,
                    last: at,
                    tgid: *tgid,
                    by: by.clone(),
                });
            }
        }
    }

    /// When the next read is due; None: nothing is.
    pub fn due(&self) -> Option<Ktime> {
        let waiting = self.v4.iter().chain(&self.v6);
        waiting.map(|r| r.last.plus_ms(SETTLE_MS)).min()
    }

    /// A read that is due. Ask again when it is done: so one is under way and one waits, a family.
    pub fn take(&mut self, now: Ktime) -> Option<Read> {
        for (family, place) in [(Family::V4, &mut self.v4), (Family::V6, &mut self.v6)] {
            if let Some(replacement) = place.take_if(|r| r.last.plus_ms(SETTLE_MS) <= now) {
                return Some(Read {
                    family,
                    at: replacement.first,
                    by: Some(replacement.by).filter(|by| !by.is_empty()),
                });
            }
        }
        None
    }

    /// Replacements whose change was read together with a later one's, and so is dated by that one.
    pub fn shared(&self) -> u64 {
        self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::NetnsInum;

    fn replaced(family: u8, table: &str, tgid: u32) -> Observation {
        Observation::TableReplaced {
            netns: NetnsInum(1),
            family,
            table: table.to_owned(),
            by: format!("iptables-{tgid}"),
            tgid,
        }
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn a_read_waits_until_what_was_left_out_is_in_force() {
        let mut pending = Pending::default();
        pending.observe(Ktime(10 * MS), &replaced(4, "nat", 1));
        assert_eq!(pending.due(), Some(Ktime(12 * MS)));
        assert_eq!(pending.take(Ktime(11 * MS)), None);
        let read = pending.take(Ktime(12 * MS)).unwrap();
        assert_eq!((read.family, read.at), (Family::V4, Ktime(10 * MS)));
        assert_eq!(read.by.as_deref(), Some("iptables-1"));
        assert_eq!((pending.due(), pending.take(Ktime(99 * MS))), (None, None));
    }

    #[test]
    fn a_large_table_is_one_replacement_dated_by_its_start() {
        let mut pending = Pending::default();
        for ms in 10..20 {
            pending.observe(Ktime(ms * MS), &replaced(6, "nat", 1));
        }
        assert_eq!(pending.take(Ktime(20 * MS)), None);
        assert_eq!(pending.take(Ktime(21 * MS)).unwrap().at, Ktime(10 * MS));
        assert_eq!(pending.shared(), 0);
    }

    #[test]
    fn replacements_by_two_share_a_read_dated_by_the_later() {
        let mut pending = Pending::default();
        pending.observe(Ktime(10 * MS), &replaced(4, "nat", 1));
        pending.observe(Ktime(11 * MS), &replaced(4, "nat", 2));
        let read = pending.take(Ktime(13 * MS)).unwrap();
        assert_eq!(
            (read.at, read.by.as_deref()),
            (Ktime(11 * MS), Some("iptables-2"))
        );
        assert_eq!(pending.shared(), 1);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn other_tables_are_not_read_and_one_without_a_name_is() {
        let mut pending = Pending::default();
        pending.observe(Ktime(MS), &replaced(4, "filter", 1));
        assert_eq!(pending.due(), None);
        pending.observe(Ktime(MS), &replaced(4, "", 1));
        assert!(pending.due().is_some());
    }
}
