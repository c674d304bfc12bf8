//! Windows in which something was lost. They lower the confidence of the verdicts they touch, and nothing else.

use std::collections::VecDeque;

use crate::{
    input::Ktime,
    verdict::{AFTER_END, BEFORE_START, Confidence, Gap},
};

/// A counter may be read just before the tick that follows its loss, and what programs were left out of is asked once a second.
const SLACK_MS: u64 = 1_000;

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
    /// Changes of one kind of object.
    Watch(Watched),
    /// Everything that came before the first lists were in.
    Start,
    /// Everything that comes after zdt was told to end.
    End,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Pods,
    Slices,
    Services,
    ReplicaSets,
}

impl Watched {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Pods, "pods"),
        (Self::Slices, "endpointslices"),
        (Self::Services, "services"),
        (Self::ReplicaSets, "replicasets"),
    ];
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
    /// When it would have been judged.
    pub due: Ktime,
    /// Since when what the API server told of its pod matters: its deletion, or the connection's beginning.
    pub objects_since: Ktime,
    /// A pod of this node may be its server.
    pub local: bool,
    /// A service stood between.
    pub service: bool,
    /// It says who started it.
    pub trigger: bool,
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
        let from = self.last_tick.minus_ms(SLACK_MS);
        self.add(Window {
            of: Of::source(source),
            from,
            to: at,
            lost: count,
        });
    }

    /// A watch is interrupted.
    pub(super) fn broke(&mut self, resource: &str, since: Ktime) {
        if let Some(of) = watched(resource)
            && self.open(of).is_none()
        {
            self.add(Window {
                of,
                from: since,
                to: OPEN,
                lost: 0,
            });
        }
    }

    /// A watch was interrupted from `since` to `at`.
    pub(super) fn gap(&mut self, resource: &str, since: Ktime, at: Ktime) {
        self.broke(resource, since);
        let of = watched(resource);
        if let Some(window) = of.and_then(|of| self.open(of)) {
            window.to = at;
        }
    }

    /// A watch was not interrupted after all.
    pub(super) fn not_broken(&mut self, resource: &str) {
        let of = watched(resource);
        self.windows
            .retain(|window| Some(window.of) != of || window.to != OPEN);
    }

    /// All first lists are in.
    pub(super) fn synced(&mut self, at: Ktime) {
        self.add(Window {
            of: Of::Start,
            from: Ktime::default(),
            to: at,
            lost: 0,
        });
    }

    /// zdt is told to end.
    pub(super) fn stopping(&mut self, at: Ktime) {
        self.add(Window {
            of: Of::End,
            from: at,
            to: OPEN,
            lost: 0,
        });
    }

    fn open(&mut self, of: Of) -> Option<&mut Window> {
        self.windows.iter_mut().find(|w| w.of == of && w.to == OPEN)
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
        self.windows
            .iter()
            .filter(|w| w.touches(from, to))
            .map(|w| w.lost)
            .sum()
    }

    /// Nothing is missing of `from..=to`: what was not seen did not happen. An object that came while a watch was interrupted
    /// is not known to the kernel half.
    pub(super) fn whole(&self, from: Ktime, to: Ktime) -> bool {
        // Nor does the start count: each rule would have to look back behind it, and what it concludes from silence is of this
        // connection's own time.
        let named = |of| {
            matches!(
                of,
                Of::Start | Of::End | Of::Watch(Watched::Services | Watched::ReplicaSets)
            )
        };
        !self.windows.iter().any(|w| w.touches(from, to) && !named(w.of))
    }

    /// Whether a pod of this node is told to go is not known now.
    pub(super) fn pods_unknown(&self) -> bool {
        let pods = Of::Watch(Watched::Pods);
        self.windows.iter().any(|w| w.of == pods && w.to == OPEN)
    }

    /// What is missing of `from..=to`, by name.
    pub(super) fn gaps(&self, from: Ktime, to: Ktime, now: Ktime) -> Vec<Gap> {
        let touching = self.windows.iter().filter(|w| w.touches(from, to));
        touching.filter_map(|w| w.gap(now)).collect()
    }

    pub(super) fn confidence(&self, on: &RestsOn, now: Ktime) -> (Confidence, Vec<Gap>) {
        let touches = |w: &&Window| {
            let from = match w.of {
                Of::End => return w.from < on.due,
                Of::Anything => Some(on.from),
                Of::Rules => on.rules_since,
                Of::Answers => on.answers.then_some(on.from),
                Of::Packets => on.packets.then_some(on.from),
                Of::Watch(Watched::Pods) => on.local.then_some(on.objects_since),
                Of::Watch(Watched::Services) => on.service.then_some(on.from),
                Of::Watch(Watched::ReplicaSets) => on.trigger.then_some(on.objects_since),
                Of::Watch(Watched::Slices) | Of::Start => Some(on.objects_since),
            };
            from.is_some_and(|from| w.touches(from, on.to))
        };
        let touching: Vec<&Window> = self.windows.iter().filter(touches).collect();
        let gaps = touching.iter().filter_map(|w| w.gap(now)).collect();
        let confidence = match touching.iter().map(|w| w.lost).sum() {
            0 if touching.is_empty() => Confidence::Full,
            lost => Confidence::Degraded { lost },
        };
        (confidence, gaps)
    }
}

/// The end of a gap that goes on.
const OPEN: Ktime = Ktime(u64::MAX);

fn watched(resource: &str) -> Option<Of> {
    let known = Watched::ALL.iter().find(|(_, name)| *name == resource);
    known.map(|(watched, _)| Of::Watch(*watched))
}

impl Window {
    fn touches(&self, from: Ktime, to: Ktime) -> bool {
        self.from <= to && self.to >= from
    }

    fn gap(&self, now: Ktime) -> Option<Gap> {
        let of = match self.of {
            Of::Start => BEFORE_START,
            Of::End => AFTER_END,
            Of::Watch(watched) => Watched::ALL.iter().find(|(w, _)| *w == watched)?.1,
            _ => return None,
        };
        Some(Gap {
            of: of.to_owned(),
            from: self.from,
            to: self.to.min(now),
        })
    }
}
