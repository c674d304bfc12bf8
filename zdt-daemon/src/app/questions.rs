//! What conntrack is to be asked, and when: follows the inputs on their way to the correlator, asks nothing itself.

use std::net::IpAddr;
use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::sync::mpsc;

use super::{
    Lost,
    endings::Endings,
    later::{self, Opening},
};
use crate::input::{Input, Ktime, Observation, Packet, TcpState, What};

/// A connection that failed keeps the counters coming for so long.
const AFTER_FAILURE_MS: u64 = 10_000;

/// The counters are read at most so often while they matter, and so often while they do not: then nobody is told, but
/// the first change that is told goes no further back.
const COUNT_MS: u64 = 1_000;
const COUNT_IDLE_MS: u64 = 10_000;

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Where the connection went that this packet opens, some time after `at`.
    Opening { at: Ktime, opening: Opening },
    /// How many entries lead to this pod, now.
    Pinned(IpAddr),
    /// What the counters say, now; told or only remembered.
    Counters { told: bool },
}

/// Makes questions of inputs.
pub(super) struct Questions {
    endings: Endings,
    failed: Option<Ktime>,
    counted: Option<Ktime>,
    to: mpsc::Sender<Question>,
    lost: Arc<Lost>,
    new: Vec<IpAddr>,
}

impl Questions {
    pub(super) fn new(to: mpsc::Sender<Question>, lost: Arc<Lost>) -> Self {
        Self {
            endings: Endings::default(),
            failed: None,
            counted: None,
            to,
            lost,
            new: Vec::new(),
        }
    }

    /// Before `input` is taken by the correlator. Never waits.
    pub(super) fn follow(&mut self, input: &Input) {
        self.endings.follow(input, &mut self.new);
        for ip in self.new.drain(..) {
            if self.to.try_send(Question::Pinned(ip)).is_err() {
                self.lost.dump.fetch_add(1, Relaxed);
            }
        }
        match &input.what {
            What::Kernel(observation) => self.observed(input.at, observation),
            What::Tick => self.tick(input.at),
            _ => {}
        }
    }

    fn observed(&mut self, at: Ktime, observation: &Observation) {
        if failed(observation) {
            self.failed = self.failed.max(Some(at));
        }
        let (Observation::Forwarded { packet } | Observation::Dropped { packet, .. }) = observation else {
            return;
        };
        if let Some(opening) = self.without_a_socket(packet)
            && self.to.try_send(Question::Opening { at, opening }).is_err()
        {
            self.lost.lookup.fetch_add(1, Relaxed);
        }
    }

    /// What a client opens that has no socket on this node: of the others their own sockets tell.
    fn without_a_socket(&self, packet: &Packet) -> Option<Opening> {
        let opening = later::opening(packet)?;
        (!self.endings.is_local(opening.orig.from.ip())).then_some(opening)
    }

    fn tick(&mut self, at: Ktime) {
        let failed = self
            .failed
            .is_some_and(|failed| at < failed.plus_ms(AFTER_FAILURE_MS));
        let told = failed || self.endings.any();
        let every = if told { COUNT_MS } else { COUNT_IDLE_MS };
        if self.counted.is_some_and(|counted| at < counted.plus_ms(every)) {
            return;
        }
        self.counted = Some(at);
        if self.to.try_send(Question::Counters { told }).is_err() {
            self.lost.counters.fetch_add(1, Relaxed);
        }
    }
}

/// Whether some connection is in trouble.
fn failed(observation: &Observation) -> bool {
    match observation {
        Observation::Retransmit { sock, .. } => sock.state == TcpState::SynSent,
        Observation::SockError { .. }
        | Observation::ResetReceived { .. }
        | Observation::ResetSent { .. }
        | Observation::Dropped { .. }
        | Observation::IcmpSent { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;
