//! RSTs that a client's kernel sent to a pod it never dialled: the pod's packet came to it untranslated.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{flow::Flow, passed::Oldest};
use crate::input::{Ktime, Observation, Side};

/// Most RSTs remembered; the oldest goes first.
const MAX_STRAYS: usize = 4_096;

/// So long the client may wait for its answer: with tcp_retries2 15, a connection is given up after 924 s (ip-sysctl), but
/// applications give up far earlier, and ports come back.
const REMEMBERED_MS: u64 = 120_000;

#[derive(Debug)]
struct Stray {
    at: Ktime,
    /// What the pod's socket told of the connection that this RST ended, until its client gives up.
    pod_side: Option<Box<Flow>>,
}

#[derive(Debug, Default)]
pub(super) struct Strays {
    /// By the client's address and the pod's.
    strays: BTreeMap<(SocketAddr, SocketAddr), Stray>,
    oldest: Oldest,
    evicted: u64,
}

impl Strays {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.strays.len(), self.evicted)
    }

    /// Takes a RST that no socket sent, on a client's side and not to a SYN. `true`: it belongs to no socket view.
    pub(super) fn observe(&mut self, at: Ktime, side: Side, observation: &Observation) -> bool {
        let Observation::ResetSent {
            sock,
            has_socket: false,
            to_syn: false,
            ..
        } = observation
        else {
            return false;
        };
        if side != Side::Client {
            return false;
        }
        let key = (sock.local, sock.remote);
        if self.strays.len() >= MAX_STRAYS && !self.strays.contains_key(&key) {
            let oldest = self.strays.iter().min_by_key(|(_, s)| s.at).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.strays.remove(&oldest));
            self.evicted += 1;
        }
        // The first one does the harm.
        self.strays.entry(key).or_insert(Stray { at, pod_side: None });
        self.oldest.note(at);
        true
    }

    /// Tells the flow of the RST to its pod. `false`: only the pod's side has ended, and its client does not know yet; it
    /// still waits for an answer, and its end tells what it had dialled.
    pub(super) fn tell(&mut self, flow: &mut Flow) -> bool {
        let Some(server) = flow.server_addr() else {
            return true;
        };
        let Some(stray) = self.strays.get_mut(&(flow.client_as_seen(), server)) else {
            return true;
        };
        let Some(dialled) = flow.dialled() else {
            let reset = flow.client_end.is_none() && flow.server_was_reset().is_some();
            if reset {
                stray.pod_side = Some(Box::new(flow.clone()));
            }
            return !reset;
        };
        // Who dials the pod itself sends such a RST when its socket is closed.
        if dialled != server {
            flow.stray_reset = Some(stray.at);
        }
        if let Some(mut pod_side) = stray.pod_side.take() {
            if let Some(server) = flow.server().or(pod_side.server()) {
                flow.set_server(server);
            }
            if let Some(at) = pod_side.seldom().server_got_reset {
                flow.seldom_mut().server_got_reset.get_or_insert(at);
            }
            flow.server_end = flow.server_end.take().or(pod_side.server_end.take());
            flow.began = flow.began.min(pod_side.began);
        }
        true
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        if self.oldest.take(now.minus_ms(REMEMBERED_MS)) {
            self.strays.retain(|_, s| now < s.at.plus_ms(REMEMBERED_MS));
            self.strays.values().for_each(|s| self.oldest.note(s.at));
        }
    }
}
