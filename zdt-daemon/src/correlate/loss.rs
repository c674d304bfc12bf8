//! Windows in which something was lost. They lower the confidence of the verdicts they touch, and nothing else.

use std::collections::VecDeque;

use crate::{input::Ktime, verdict::Confidence};

/// Most windows kept; older ones melt into one.
const MAX_WINDOWS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// (from, to, pieces lost)
    windows: VecDeque<(Ktime, Ktime, u64)>,
    last_tick: Ktime,
}

impl Losses {
    /// A tick bounds the window of a loss that is reported later: losses are read at least once a tick.
    pub(super) fn tick(&mut self, at: Ktime) {
        self.last_tick = at;
    }

    /// `count` pieces were lost since the tick before the last one, and before `at`.
    pub(super) fn lost(&mut self, at: Ktime, count: u64) {
        // One tick of slack: a counter may be read just before the tick that follows its loss.
        let from = self.last_tick.minus_ms(500);
        self.add(from, at, count);
    }

    /// A watch was blind from `since` to `at`.
    pub(super) fn gap(&mut self, since: Ktime, at: Ktime) {
        self.add(since, at, 1);
    }

    fn add(&mut self, from: Ktime, to: Ktime, count: u64) {
        if self.windows.len() >= MAX_WINDOWS
            && let (Some(first), Some(second)) = (self.windows.pop_front(), self.windows.pop_front())
        {
            self.windows
                .push_front((first.0.min(second.0), first.1.max(second.1), first.2 + second.2));
        }
        self.windows.push_back((from, to, count));
    }

    /// Pieces lost in windows that touch `from..=to`.
    pub(super) fn within(&self, from: Ktime, to: Ktime) -> u64 {
        self.windows
            .iter()
            .filter(|(f, t, _)| *f <= to && *t >= from)
            .map(|(_, _, n)| n)
            .sum()
    }

    pub(super) fn confidence(&self, from: Ktime, to: Ktime) -> Confidence {
        match self.within(from, to) {
            0 => Confidence::Full,
            lost => Confidence::Degraded { lost },
        }
    }
}
