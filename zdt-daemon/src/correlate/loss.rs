//! Windows in which something was lost. They lower the confidence of the verdicts they touch, and nothing else.

use std::collections::VecDeque;

use crate::{input::Ktime, verdict::Confidence};

/// Most windows kept; older ones melt into one.
const MAX_WINDOWS: usize = 256;

/// What may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// What any verdict may rest on: sockets, processes, objects, translations.
    Anything,
    /// Changes of the node's rules.
    Rules,
    /// Packets that open connections.
    Packets,
    /// Heads of answers.
    Answers,
}

impl Of {
    /// By the source that counted it; what the ring had no room for, and what a program was left out of, is counted by hook.
    fn source(source: &str) -> Self {
        let hook = source
            .strip_prefix("ring:")
            .or_else(|| source.strip_prefix("missed:"))
            .map(|h| h.split('/').next().unwrap_or(h));
        match (source, hook) {
            // That a legacy table was replaced is all that this hook tells.
            ("rules", _) | (_, Some("percpu_free_percpu")) => Self::Rules,
            (_, Some("net_dev_queue" | "kfree_skb" | "icmp_send")) => Self::Packets,
            (_, Some("cgroup_skb_egress")) => Self::Answers,
            _ => Self::Anything,
        }
    }
}

/// What a verdict rests on, and from when to when.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestsOn {
    pub from: Ktime,
    pub to: Ktime,
    /// A rule asked for the routes, of this time or later.
    pub rules_since: Option<Ktime>,
    /// It is about the beginning of a connection.
    pub packets: bool,
    /// It is about an answer's head.
    pub answers: bool,
}

#[derive(Debug)]
struct Window {
    of: Of,
    from: Ktime,
    to: Ktime,
    lost: u64,
}

#[derive(Debug, Default)]
pub(super) struct Losses {
    windows: VecDeque<Window>,
    last_tick: Ktime,
}

impl Losses {
    /// A tick bounds the window of a loss that is reported later: losses are read at least once a tick.
    pub(super) fn tick(&mut self, at: Ktime) {
        self.last_tick = at;
    }

    /// `count` pieces were lost at `source` since the tick before the last one, and before `at`.
    pub(super) fn lost(&mut self, at: Ktime, source: &str, count: u64) {
        // One tick of slack: a counter may be read just before the tick that follows its loss.
        let from = self.last_tick.minus_ms(500);
        self.add(Window {
            of: Of::source(source),
            from,
            to: at,
            lost: count,
        });
    }

    /// A watch was blind from `since` to `at`.
    pub(super) fn gap(&mut self, since: Ktime, at: Ktime) {
        self.add(Window {
            of: Of::Anything,
            from: since,
            to: at,
            lost: 1,
        });
    }

    fn add(&mut self, window: Window) {
        if self.windows.len() >= MAX_WINDOWS
            && let (Some(first), Some(second)) = (self.windows.pop_front(), self.windows.pop_front())
        {
            let of = if first.of == second.of {
                first.of
            } else {
                Of::Anything
            };
            self.windows.push_front(Window {
                of,
                from: first.from.min(second.from),
                to: first.to.max(second.to),
                lost: first.lost + second.lost,
            });
        }
        self.windows.push_back(window);
    }

    /// Pieces lost in windows that touch `from..=to`.
    pub(super) fn within(&self, from: Ktime, to: Ktime) -> u64 {
        self.sum(|w| w.from <= to && w.to >= from)
    }

    pub(super) fn confidence(&self, on: &RestsOn) -> Confidence {
        let touches = |w: &Window| {
            let from = match w.of {
                Of::Anything => Some(on.from),
                Of::Rules => on.rules_since,
                Of::Answers => on.answers.then_some(on.from),
                Of::Packets => on.packets.then_some(on.from),
            };
            from.is_some_and(|from| w.from <= on.to && w.to >= from)
        };
        match self.sum(touches) {
            0 => Confidence::Full,
            lost => Confidence::Degraded { lost },
        }
    }

    fn sum(&self, touches: impl Fn(&Window) -> bool) -> u64 {
        self.windows.iter().filter(|w| touches(w)).map(|w| w.lost).sum()
    }
}
