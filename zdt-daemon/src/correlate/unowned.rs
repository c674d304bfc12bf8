//! RSTs of a server's side without a socket, to anything but a SYN. Most trail a connection that ended well. Some are all
//! that is left of a handshake: the client's own end then says whose it was. Of a client that has no socket on this node
//! they are all there is: [`Unowned::alone`] hands them out.

use std::{collections::VecDeque, net::SocketAddr};

use super::{Correlator, flow::ResetSeen};
use crate::input::Ktime;

/// Most kept; the oldest goes first.
const MAX_KEPT: usize = 1_024;

/// A client's socket ends with the RST that it gets: within the network's delay.
const FITS_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Reset {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub reset: ResetSeen,
}

#[derive(Debug, Default)]
pub(super) struct Unowned(VecDeque<Reset>);

impl Unowned {
    pub(super) fn keep(&mut self, client: SocketAddr, server: SocketAddr, reset: ResetSeen) {
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Reset {
            client,
            server,
            reset,
        });
    }

    /// The first RST that this client got in the last moment from a server that may be its own.
    pub(super) fn take(
        &mut self,
        client: SocketAddr,
        at: Ktime,
        may_be: impl Fn(SocketAddr) -> bool,
    ) -> Option<(SocketAddr, ResetSeen)> {
        let own = self.0.iter().position(|s| {
            let fits = s.reset.at <= at && at <= s.reset.at.plus_ms(FITS_MS);
            s.client == client && fits && may_be(s.server)
        })?;
        self.0.remove(own).map(|s| (s.server, s.reset))
    }

    /// When the first of them came.
    pub(super) fn first(&self) -> Option<Ktime> {
        self.0.front().map(|s| s.reset.at)
    }

    /// The next RST that no socket of this node has claimed in time.
    pub(super) fn alone(&mut self, now: Ktime) -> Option<Reset> {
        let over = self.0.front()?.reset.at.plus_ms(FITS_MS) < now;
        let first = if over { self.0.pop_front() } else { None }?;
        // One to the handshake's last ACK, one to the request behind it.
        self.0
            .retain(|s| (s.client, s.server) != (first.client, first.server));
        Some(first)
    }
}

impl Correlator {
    /// Opens a flow for each RST that was all there was of a handshake: to a client that has no socket on this node, of a port
    /// whose listener had closed. A client of this node tells it itself.
    pub(super) fn open_half_open(&mut self) {
        let start = self.start.as_ref();
        let of_node = |ip| start.is_some_and(|(_, s)| s.node_addrs.contains(&ip));
        let pods = &self.pods;
        let half_open = |left: &Reset| {
            let (client, server, at) = (left.client.ip(), left.server, left.reset.at);
            let elsewhere = !of_node(client) && pods.owner(client, at).is_none();
            let pod = pods.owner(server.ip(), at).filter(|_| elsewhere);
            pod.is_some_and(|pod| pod.listener_closed(server.port(), at).is_some())
        };
        self.flows
            .open_unowned(self.now, self.settings.judge_grace_ms, half_open);
    }
}
