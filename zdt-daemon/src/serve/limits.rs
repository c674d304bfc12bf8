//! How many requests are answered in a second: a token bucket.

use crate::input::Ktime;

/// Requests a second in the long run.
const A_SECOND: f64 = 20.0;

/// Requests at once.
const AT_ONCE: f64 = 40.0;

#[derive(Debug)]
pub(super) struct Rate {
    tokens: f64,
    at: Ktime,
}

impl Rate {
    pub(super) fn new(now: Ktime) -> Self {
        Self {
            tokens: AT_ONCE,
            at: now,
        }
    }

    /// Whether one more request is answered.
    pub(super) fn admits(&mut self, now: Ktime) -> bool {
        let gained = now.ms_since(self.at).max(0.0) / 1000.0 * A_SECOND;
        self.tokens = (self.tokens + gained).min(AT_ONCE);
        self.at = self.at.max(now);
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(rate: &mut Rate, at_ms: u64) -> usize {
        (0..1_000)
            .filter(|_| rate.admits(Ktime::default().plus_ms(at_ms)))
            .count()
    }

    #[test]
    fn burst_is_bounded_and_refills_with_time() {
        let mut rate = Rate::new(Ktime::default());
        assert_eq!(admitted(&mut rate, 0), 40);
        assert_eq!(admitted(&mut rate, 500), 10);
        assert_eq!(admitted(&mut rate, 60_000), 40, "no more than at once");
    }

    #[test]
    fn clock_that_stands_still_admits_no_more() {
        let mut rate = Rate::new(Ktime::default().plus_ms(1_000));
        admitted(&mut rate, 1_000);
        assert_eq!(admitted(&mut rate, 900), 0);
    }
}
