//! Connections that have had their verdict while their server still held a socket: a server that hangs closes it much later,
//! and that end is no second failure.

use std::{collections::HashMap, net::SocketAddr};

use super::flow::Flow;
use crate::input::{Ktime, TcpState};

/// Most remembered: the bound of the flow table. More are not, and may be told twice.
const MAX_TOLD: usize = 65_536;

/// A server may hang for as long as its liveness probe lets it (periodSeconds x failureThreshold, 30 s by default, and the
/// grace of 30 s); ports come back after the 60 s of TIME_WAIT.
const REMEMBERED_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Told {
    /// When, by the client as the server saw it, and the server.
    told: HashMap<(SocketAddr, SocketAddr), Ktime>,
    /// What found no room.
    refused: u64,
}

impl Told {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.told.len(), self.refused)
    }

    /// Whether this is only the server's late end of a connection that its client had left, and that has had its verdict.
    pub(super) fn already(&self, flow: &Flow) -> bool {
        let late_end = flow.client_end.is_none()
            && flow
                .server_end
                .as_ref()
                .is_some_and(|e| e.old == TcpState::CloseWait);
        late_end && key(flow).is_some_and(|key| self.told.contains_key(&key))
    }

    pub(super) fn keep(&mut self, flow: &Flow) {
        if flow.server_end.is_some() || flow.client_end.is_none() || flow.failed_to_connect() {
            return;
        }
        if let (Some(key), Some(ended)) = (key(flow), flow.ended) {
            if self.told.len() < MAX_TOLD {
                self.told.insert(key, ended);
            } else {
                self.refused += 1;
            }
        }
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        self.told.retain(|_, ended| now < ended.plus_ms(REMEMBERED_MS));
    }
}

fn key(flow: &Flow) -> Option<(SocketAddr, SocketAddr)> {
    Some((flow.client_as_seen(), flow.server_addr()?))
}
