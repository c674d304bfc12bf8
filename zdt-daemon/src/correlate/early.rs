//! New connections to endpoints that no rule was known to lead to when they came. The kernel uses a replaced legacy table some
//! milliseconds before it has been read, and what is read has the time of the replacement.

use std::{collections::VecDeque, net::SocketAddr};

use crate::input::Ktime;

/// Longer than the table of 10,000 services takes to read.
const KEPT_MS: u64 = 2_000;
/// A full list takes no more: the first connection to a new endpoint is the one that counts.
const MAX: usize = 1_024;

/// A new connection that this node sent to an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub server: SocketAddr,
    pub at: Ktime,
}

#[derive(Debug, Default)]
pub(super) struct Early {
    sent: VecDeque<Sent>,
}

impl Early {
    pub(super) fn keep(&mut self, sent: Sent) {
        let too_old = sent.at.minus_ms(KEPT_MS);
        while self.sent.front().is_some_and(|s| s.at < too_old) {
            self.sent.pop_front();
        }
        if self.sent.len() < MAX {
            self.sent.push_back(sent);
        }
    }

    pub(super) fn take(&mut self) -> VecDeque<Sent> {
        std::mem::take(&mut self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ms: u64) -> Sent {
        Sent {
            server: "10.244.1.6:8080".parse().unwrap(),
            at: Ktime(ms * 1_000_000),
        }
    }

    #[test]
    fn it_keeps_the_first_of_what_is_recent() {
        let mut early = Early::default();
        (0..2_000).for_each(|ms| early.keep(sent(ms)));
        let kept = early.take();
        assert_eq!((kept.len(), kept[0].at.0), (MAX, 0));
        early.keep(sent(0));
        early.keep(sent(10_000));
        assert_eq!(early.take().len(), 1);
    }
}
