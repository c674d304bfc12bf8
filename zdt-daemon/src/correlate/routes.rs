//! Which endpoints the node's rules sent new connections to, over time.

use std::{cell::Cell, collections::HashMap, net::SocketAddr};

use super::{bound::Cost, passed::Passed, shared::add};
use crate::input::{Ktime, Protocol, RulesState};

/// Most spans kept of one endpoint; the oldest goes first.
const MAX_SPANS: usize = 64;

/// From when to when an endpoint was routed to.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Ktime,
    to: Option<Ktime>,
}

#[derive(Debug)]
pub struct Routes {
    /// Since when the rules are known.
    since: Option<Ktime>,
    spans: HashMap<(Protocol, SocketAddr), Box<[Span]>>,
    /// Those that the rules let go of.
    passed: Passed<(Protocol, SocketAddr)>,
    max: usize,
    pub(super) cost: Cost,
}

/// What a rule asks of the routes for one flow. That it asked is noted: then its verdict rests on them, and on nothing
/// of theirs having been lost.
#[derive(Clone, Copy, Debug)]
pub struct RoutesAsked<'a> {
    pub(super) routes: &'a Routes,
    pub(super) protocol: Protocol,
    pub(super) asked: &'a Cell<bool>,
}

impl RoutesAsked<'_> {
    /// See [`Routes::routed`].
    pub fn routed(&self, to: SocketAddr, at: Ktime) -> Option<bool> {
        self.asked.set(true);
        self.routes.routed(self.protocol, to, at)
    }

    /// See [`Routes::dropped`].
    pub fn dropped(&self, to: SocketAddr, after: Ktime) -> Option<Ktime> {
        self.asked.set(true);
        self.routes.dropped(self.protocol, to, after)
    }

    /// See [`Routes::let_go`].
    pub fn let_go(&self, to: SocketAddr, at: Ktime) -> Option<Ktime> {
        self.asked.set(true);
        self.routes.let_go(self.protocol, to, at)
    }
}

impl Routes {
    pub(super) fn new(max: usize) -> Self {
        Self {
            since: None,
            spans: HashMap::new(),
            passed: Passed::default(),
            max,
            cost: Cost::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn applied(&mut self, at: Ktime, rules: &RulesState) {
        self.since.get_or_insert(at);
        // What was there at the start has been there for a time that nobody knows.
        let from = if rules.first { Ktime::default() } else { at };
        for route in &rules.change.added {
            let key = (route.protocol, route.to);
            if self.spans.len() >= self.max && !self.spans.contains_key(&key) {
                self.cost.one();
                continue;
            }
            let spans = self.spans.entry(key).or_default();
            if spans.last().is_none_or(|s| s.to.is_some()) {
                add(spans, Span { from, to: None }, MAX_SPANS);
            }
        }
        for route in &rules.change.removed {
            let key = (route.protocol, route.to);
            let last = self.spans.get_mut(&key).and_then(|spans| spans.last_mut());
            if let Some(span) = last.filter(|span| span.to.is_none()) {
                span.to = Some(at);
                self.passed.add(at, key);
            }
        }
    }

    /// Whether the rules sent new connections to `to` at `at`. None: they were not known then, or have never led there
    /// (then it is not these rules that balance).
    pub fn routed(&self, protocol: Protocol, to: SocketAddr, at: Ktime) -> Option<bool> {
        self.since.filter(|since| *since <= at)?;
        let covers = |s: &Span| s.from <= at && s.to.is_none_or(|to| at <= to);
        Some(self.spans.get(&(protocol, to))?.iter().any(covers))
    }

    /// When the rules let go of `to`, at `after` or later. A rollout's pod may also have been dropped a moment before the
    /// watch told this daemon of its deletion.
    pub fn dropped(&self, protocol: Protocol, to: SocketAddr, after: Ktime) -> Option<Ktime> {
        self.spans
            .get(&(protocol, to))?
            .iter()
            .filter_map(|s| s.to)
            .find(|to| *to >= after)
    }

    /// When the rules let go of `to` for the last time by `at`.
    pub fn let_go(&self, protocol: Protocol, to: SocketAddr, at: Ktime) -> Option<Ktime> {
        let ends = self.spans.get(&(protocol, to))?.iter().filter_map(|s| s.to);
        ends.filter(|to| *to <= at).max()
    }

    /// When the rules first led to `to`, at `after` or later. None: they have not, or did before.
    pub(super) fn taken_up(&self, to: SocketAddr, after: Ktime) -> Option<Ktime> {
        self.of(to).map(|s| s.from).filter(|from| *from >= after).min()
    }

    /// Until when the rules led to `to`, of each time and protocol that they did so at some time of `from..=at`. None: they still
    /// do. (A pod that takes the address later has times of its own.)
    pub(super) fn until(
        &self,
        to: SocketAddr,
        from: Ktime,
        at: Ktime,
    ) -> impl Iterator<Item = Option<Ktime>> {
        let then = self
            .of(to)
            .filter(move |s| s.from <= at && s.to.is_none_or(|to| to >= from));
        then.map(|s| s.to)
    }

    /// These rules lead to `to`, or once did: it is them that balance.
    pub(super) fn lead_or_led(&self, to: SocketAddr) -> bool {
        self.of(to).next().is_some()
    }

    fn of(&self, to: SocketAddr) -> impl Iterator<Item = &Span> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .flat_map(move |protocol| self.spans.get(&(protocol, to)).into_iter().flatten())
    }

    pub(super) fn forget(&mut self, before: Ktime) {
        let stays = |s: &&Span| s.to.is_none_or(|to| to >= before);
        while let Some(key) = self.passed.take(before) {
            let Some(of_one) = self.spans.get_mut(&key) else {
                continue;
            };
            *of_one = of_one.iter().filter(stays).copied().collect();
            let next = of_one.iter().filter_map(|s| s.to).min();
            if of_one.is_empty() {
                self.spans.remove(&key);
            } else if let Some(next) = next {
                self.passed.add(next, key);
            }
        }
    }
}
