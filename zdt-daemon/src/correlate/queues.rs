//! When the queues of listeners were full, and when these dropped what came.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use super::Correlator;
use crate::input::{Ktime, Observation};

/// Most listeners remembered; the one that was looked at longest ago goes first. A few looks of each: what is judged was
/// some seconds ago, and there are at most some 20 a second.
const MAX_LISTENERS: usize = 4_096;
const MAX_LOOKS: usize = 2_048;

/// A SYN's time has a resolution of 1 ms, and the way to the listener takes some 10 µs; looks are exact.
const SLACK_MS: u64 = 2;

/// A look at a listener.
#[derive(Clone, Copy, Debug)]
pub struct QueueLook {
    /// The look before.
    pub since: Ktime,
    pub at: Ktime,
    /// What it dropped between the two.
    pub dropped: u32,
    /// Connections that waited, and what the application had asked for; with one more the queue is full.
    pub waiting: u32,
    pub backlog: u32,
}

impl QueueLook {
    /// include/net/sock.h sk_acceptq_is_full
    pub fn full(&self) -> bool {
        self.waiting > self.backlog
    }
}

/// What is known of the queues.
#[derive(Debug, Default)]
pub struct Queues {
    looks: BTreeMap<SocketAddr, VecDeque<QueueLook>>,
    /// Listeners that went for others. An old look that goes for a new one costs nothing: what is judged is younger.
    evicted: u64,
}

impl Queues {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.looks.len(), self.evicted)
    }

    pub(super) fn looked(&mut self, local: SocketAddr, look: QueueLook) {
        if self.looks.len() >= MAX_LISTENERS && !self.looks.contains_key(&local) {
            let last = |looks: &VecDeque<QueueLook>| looks.back().map(|l| l.at);
            let oldest = self.looks.iter().min_by_key(|(_, l)| last(l)).map(|(to, _)| *to);
            oldest.and_then(|oldest| self.looks.remove(&oldest));
            self.evicted += 1;
        }
        let looks = self.looks.entry(local).or_default();
        if looks.len() >= MAX_LOOKS {
            looks.pop_front();
        }
        looks.push_back(look);
    }

    /// The look that says that this listener dropped what came at `at`: it dropped something between this look and the one
    /// before, and its queue was full; or its queue was full before, and nothing has joined it since.
    pub fn dropped(&self, local: SocketAddr, at: Ktime) -> Option<QueueLook> {
        let looks = self.looks.get(&local)?;
        let covers = |l: &QueueLook| l.since <= at.plus_ms(SLACK_MS) && at <= l.at;
        let counted = looks
            .iter()
            .enumerate()
            .filter(|(_, l)| covers(l) && l.dropped > 0);
        // Unreported looks lie between two reports only where the queue had room.
        let was_full = |n: usize, since: Ktime| {
            let before = n.checked_sub(1).and_then(|n| looks.get(n));
            before.is_some_and(|b| b.full() && since <= b.at)
        };
        let mut counted = counted.filter(|(n, l)| l.full() || was_full(*n, l.since));
        let still_full = || looks.back().filter(|l| l.full() && l.at <= at);
        counted.next().map(|(_, l)| l).or_else(still_full).copied()
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        self.looks.retain(|_, looks| {
            while looks.front().is_some_and(|l| l.at < before) {
                looks.pop_front();
            }
            !looks.is_empty()
        });
    }
}

impl Correlator {
    pub(super) fn queue_looked_at(&mut self, at: Ktime, observation: &Observation) {
        let Observation::ListenQueue {
            netns,
            local,
            since,
            dropped,
            waiting,
            backlog,
        } = observation
        else {
            return;
        };
        let look = QueueLook {
            since: *since,
            at,
            dropped: *dropped,
            waiting: *waiting,
            backlog: *backlog,
        };
        if !self.anothers(at, local.ip(), *netns) {
            self.queues.looked(*local, look);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Ktime {
        Ktime(ms * 1_000_000)
    }

    /// Looks at one listener with a backlog of 2: (since, at, dropped, waiting).
    fn looks(of: &[(u64, u64, u32, u32)]) -> (Queues, SocketAddr) {
        let local = SocketAddr::from(([10, 244, 1, 2], 8080));
        let mut queues = Queues::default();
        for &(since, at, dropped, waiting) in of {
            let look = QueueLook {
                since: ms(since),
                at: ms(at),
                dropped,
                waiting,
                backlog: 2,
            };
            queues.looked(local, look);
        }
        (queues, local)
    }

    fn at(queues: &Queues, local: SocketAddr, time: u64) -> Option<Ktime> {
        queues.dropped(local, ms(time)).map(|l| l.at)
    }

    #[test]
    fn a_drop_belongs_to_the_time_between_two_looks() {
        let (queues, local) = looks(&[(100, 200, 0, 3), (200, 300, 2, 3), (300, 400, 0, 2)]);
        assert_eq!(at(&queues, local, 250), Some(ms(300)));
        // Nothing was dropped then, whatever was before and after.
        assert_eq!(at(&queues, local, 150), None);
        assert_eq!(at(&queues, local, 350), None);
        // The queue has room at the last look.
        assert_eq!(at(&queues, local, 500), None);
        let other = SocketAddr::from(([10, 244, 1, 2], 9090));
        assert_eq!(at(&queues, other, 250), None);
    }

    #[test]
    fn a_queue_that_was_full_stays_so_while_nothing_joins_it() {
        let (queues, local) = looks(&[(100, 200, 0, 3)]);
        assert_eq!(at(&queues, local, 5_000), Some(ms(200)));
        assert_eq!(at(&queues, local, 150), None);
    }

    #[test]
    fn drops_of_a_queue_with_room_are_not_for_want_of_it() {
        // A listener drops for other reasons, too (net/ipv4/tcp_input.c tcp_conn_request).
        let (queues, local) = looks(&[(100, 200, 3, 1)]);
        assert_eq!(at(&queues, local, 150), None);
        // It was full at the look before, and had room again at this one.
        let (queues, local) = looks(&[(100, 200, 0, 3), (200, 400, 3, 1)]);
        assert_eq!(at(&queues, local, 300), Some(ms(400)));
        // Between the two there were others, with room.
        let (queues, local) = looks(&[(100, 200, 0, 3), (250, 400, 3, 1)]);
        assert_eq!(at(&queues, local, 300), None);
    }

    #[test]
    fn the_number_of_looks_is_bounded() {
        let many: Vec<_> = (0..5_000).map(|n| (n * 100, n * 100 + 100, 1, 3)).collect();
        let (mut queues, local) = looks(&many);
        assert_eq!(queues.looks.values().map(VecDeque::len).sum::<usize>(), MAX_LOOKS);
        assert_eq!(at(&queues, local, 499_950), Some(ms(500_000)));
        queues.forget(ms(600_000));
        assert!(queues.looks.is_empty());
    }
}
