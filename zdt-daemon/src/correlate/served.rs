//! Requests that a pod of this node answered with an error. A kept connection may carry many, and it goes on behind each: so
//! each is a flow of its own, which begins and ends with the answer.

use std::collections::BTreeMap;

use super::{
    Correlator,
    flow::{AnswerSeen, Flow},
};
use crate::input::{Ktime, Observation, Protocol, Translation};

/// Most that wait to be judged; the oldest goes first. The kernel half reports 2,000 a second of each CPU at most, and they
/// wait for the grace of 2 s.
const MAX_WAITING: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct ServedErrors {
    /// By when they are due, in the order in which they came.
    waiting: BTreeMap<(Ktime, u64), Flow>,
    next: u64,
    evicted: u64,
}

impl Correlator {
    /// An answer with an error.
    pub(super) fn served_error(&mut self, at: Ktime, observation: &Observation) {
        let Observation::Answer {
            sock, status, body, ..
        } = observation
        else {
            return;
        };
        // A cgroup's program knows no network namespace, but whose cgroup it is.
        let owner = self.pods.owner(sock.local.ip(), at);
        if owner.is_some_and(|pod| self.pods.is_anothers(sock.cgroup, &pod.state.uid)) {
            return;
        }
        let answer = AnswerSeen {
            at,
            status: *status,
            body: *body,
            end: None,
            cgroup: sock.cgroup,
        };
        if !answer.is_error() {
            return;
        }
        // A probe, or a masqueraded client; conntrack tells which, a little later.
        let node = self.start.as_ref().map(|(_, s)| s.node_addrs.as_slice());
        if !node.unwrap_or_default().contains(&sock.remote.ip()) {
            self.pods.erred(at, sock.local.ip());
        }
        let mut flow = Flow::new(sock.remote, at);
        flow.set_server(sock.local);
        flow.ended = Some(at);
        flow.seldom_mut().answer = Some(answer);
        self.served.wait(at.plus_ms(self.settings.judge_grace_ms), flow);
    }
}

impl ServedErrors {
    fn wait(&mut self, due: Ktime, flow: Flow) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_first();
            self.evicted += 1;
        }
        self.waiting.insert((due, self.next), flow);
        self.next += 1;
    }

    /// Who opened the connection, and to where.
    pub(super) fn translation(&mut self, at: Ktime, translation: &Translation) {
        let Some(reply) = translation
            .reply
            .filter(|_| translation.protocol == Protocol::Tcp)
        else {
            return;
        };
        // Asked right behind the answer, and not again for a while.
        let of_it = |flow: &&mut Flow| {
            flow.client_as_seen() == reply.to
                && flow.server() == Some(reply.from)
                && flow.translated().is_none()
                && flow.began <= at
        };
        for flow in self.waiting.values_mut().filter(of_it) {
            flow.set_dialled(translation.orig.to);
            flow.set_translated(Some(super::flow::Translated {
                reply: Some(reply),
                replied: translation.replied,
            }));
            if flow.client() != translation.orig.from {
                flow.unmask(translation.orig.from);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Ktime> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// One whose grace is over.
    pub(super) fn take_due(&mut self, now: Ktime) -> Option<Flow> {
        self.waiting
            .first_key_value()
            .filter(|((due, _), _)| *due <= now)?;
        self.take_first()
    }

    pub(super) fn take_first(&mut self) -> Option<Flow> {
        self.waiting.pop_first().map(|(_, flow)| flow)
    }

    /// How many the bound has cost since the last call.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }
}
