//! RSTs that a client's kernel sent to a pod it never dialled: the pod's packet came to it untranslated.

use std::{collections::BTreeMap, net::SocketAddr};

use super::flow::Flow;
use crate::input::{Ktime, Observation, Side};

/// Most RSTs remembered; the oldest goes first.
const MAX_STRAYS: usize = 4_096;

/// So long the client may wait for its answer: with tcp_retries2 15, a connection is given up after 924 s (ip-sysctl), but
/// applications give up far earlier, and ports come back.
const REMEMBERED_MS: u64 = 120_000;

#[derive(Clone, Copy, Debug)]
struct Stray {
    at: Ktime,
    /// A verdict names it.
    told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Strays {
    /// By the client's address and the pod's.
    strays: BTreeMap<(SocketAddr, SocketAddr), Stray>,
}

impl Strays {
    /// Takes a RST that no socket sent, on a client's side and not to a SYN. `true`: it belongs to no socket view.
    pub(super) fn observe(&mut self, at: Ktime, observation: &Observation) -> bool {
        let Observation::ResetSent {
            sock,
            has_socket: false,
            to_syn: false,
            ..
        } = observation
        else {
            return false;
        };
        if sock.side != Side::Client {
            return false;
        }
        let key = (sock.local, sock.remote);
        if self.strays.len() >= MAX_STRAYS && !self.strays.contains_key(&key) {
            let oldest = self.strays.iter().min_by_key(|(_, s)| s.at).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.strays.remove(&oldest));
        }
        // The first one does the harm.
        self.strays.entry(key).or_insert(Stray { at, told: false });
        true
    }

    /// Tells the flow of the RST to its pod. `false`: that connection has had its verdict, when its server's side ended, and
    /// this is its client that gives up.
    pub(super) fn tell(&mut self, flow: &mut Flow) -> bool {
        let (Some(dialled), Some(server)) = (flow.dialled, flow.server_addr()) else {
            return true;
        };
        let Some(stray) = self.strays.get_mut(&(flow.client_as_seen(), server)) else {
            return true;
        };
        let other_end = flow.server_got_reset.is_none() && flow.server_end.is_none();
        if stray.told && other_end && !flow.failed_to_connect() {
            return false;
        }
        // Who dials the pod itself sends such a RST when its socket is closed.
        if dialled != server {
            flow.stray_reset = Some(stray.at);
            stray.told = true;
        }
        true
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        self.strays.retain(|_, s| now < s.at.plus_ms(REMEMBERED_MS));
    }
}
