//! Look-ups that are to be made some time after a packet: by then an answer to it has come, or none will before the next.
//! Pure: a queue with a bound.

use std::collections::{BTreeMap, BTreeSet};

use crate::input::{Ktime, Packet, Protocol, Tuple};

/// A SYN without an answer is sent again after 1 s (TCP_TIMEOUT_INIT, include/net/tcp.h). Asked so long after each of
/// them, conntrack tells which one was answered.
pub(super) const AFTER_MS: u64 = 1_200;

/// A bridge makes two events of one packet, a few ms apart at most; no SYN is retried so soon.
const SAME_MS: u64 = 100;

/// Most look-ups that wait. One is about 80 bytes.
pub(super) const MOST: usize = 16_384;

/// A packet that opens a connection, and its retransmits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Opening {
    pub(super) protocol: Protocol,
    pub(super) orig: Tuple,
    isn: Option<u32>,
}

/// What waits, by the time that it is due.
#[derive(Debug, Default)]
pub(super) struct Later {
    due: BTreeSet<(Ktime, Opening)>,
    /// When each was last seen.
    seen: BTreeMap<Opening, Ktime>,
}

impl Later {
    /// False: it had to be left out for lack of room.
    pub(super) fn seen(&mut self, at: Ktime, opening: Opening) -> bool {
        let before = self.seen.get(&opening);
        let same = match opening.protocol {
            // Each SYN is a question of its own.
            Protocol::Tcp => before.is_some_and(|before| at < before.plus_ms(SAME_MS)),
            // Of datagrams the first of those 1.2 s.
            Protocol::Udp | Protocol::Sctp => before.is_some(),
        };
        if same {
            return true;
        }
        if self.due.len() >= MOST {
            return false;
        }
        self.seen.insert(opening, at);
        self.due.insert((at.plus_ms(AFTER_MS), opening));
        true
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Ktime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// One that is due.
    pub(super) fn take(&mut self, now: Ktime) -> Option<Opening> {
        let (due, opening) = self.due.first().copied().filter(|(due, _)| *due <= now)?;
        self.due.pop_first();
        if self
            .seen
            .get(&opening)
            .is_some_and(|at| at.plus_ms(AFTER_MS) <= due)
        {
            self.seen.remove(&opening);
        }
        Some(opening)
    }
}

/// The opening that a packet belongs to; None: conntrack has no entry for it.
pub(super) fn opening(packet: &Packet) -> Option<Opening> {
    Some(Opening {
        protocol: packet.protocol,
        orig: packet.ct.as_ref()?.orig,
        isn: packet.isn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn opened(protocol: Protocol, isn: Option<u32>) -> Opening {
        Opening {
            protocol,
            orig: Tuple {
                from: "192.0.2.1:40000".parse().unwrap(),
                to: "10.0.0.1:30080".parse().unwrap(),
            },
            isn,
        }
    }

    fn taken(later: &mut Later, ms: u64) -> usize {
        std::iter::from_fn(|| later.take(Ktime(ms * MS))).count()
    }

    #[test]
    fn a_syn_is_asked_for_once_however_many_events_the_bridge_makes_of_it() {
        let (mut later, syn) = (Later::default(), opened(Protocol::Tcp, Some(7)));
        for ms in [0, 1, 3] {
            assert!(later.seen(Ktime(ms * MS), syn));
        }
        assert_eq!(later.next(), Some(Ktime(1_200 * MS)));
        assert_eq!(taken(&mut later, 1_199), 0);
        assert_eq!(later.take(Ktime(1_200 * MS)), Some(syn));
        assert_eq!((later.next(), taken(&mut later, 9_999)), (None, 0));
        assert!(later.seen.is_empty());
    }

    #[test]
    fn each_later_syn_is_asked_for_again_and_another_connection_on_its_own() {
        let (mut later, syn) = (Later::default(), opened(Protocol::Tcp, Some(7)));
        later.seen(Ktime(0), syn);
        later.seen(Ktime(1_000 * MS), syn);
        later.seen(Ktime(1_001 * MS), syn);
        later.seen(Ktime(1_002 * MS), opened(Protocol::Tcp, Some(8)));
        assert_eq!(taken(&mut later, 1_500), 1);
        assert_eq!(taken(&mut later, 2_300), 2);
        assert!(later.seen.is_empty());
    }

    #[test]
    fn of_datagrams_one_in_each_span_is_asked_for() {
        let (mut later, datagram) = (Later::default(), opened(Protocol::Udp, None));
        for ms in (0..1_200).step_by(100) {
            later.seen(Ktime(ms * MS), datagram);
        }
        assert_eq!(taken(&mut later, 5_000), 1);
        later.seen(Ktime(1_300 * MS), datagram);
        assert_eq!(taken(&mut later, 5_000), 1);
    }

    #[test]
    fn what_finds_no_room_is_said_and_what_waits_stays() {
        let mut later = Later::default();
        let one = |n: usize| opened(Protocol::Tcp, u32::try_from(n).ok());
        assert!((0..MOST).all(|n| later.seen(Ktime(0), one(n))));
        assert!(!later.seen(Ktime(0), one(MOST)));
        assert_eq!(taken(&mut later, 1_200), MOST);
        assert!(later.seen(Ktime(0), one(MOST)));
    }
}
