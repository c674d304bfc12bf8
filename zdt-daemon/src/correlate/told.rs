//! Connections that have had their verdict while one side still held a socket: a server that hangs closes it much later, a
//! client that never got the rest of its answer gives up much later, a kernel tries for minutes to send it. None of that is a
//! second failure.

use std::{collections::HashMap, net::SocketAddr};

use super::{flow::Flow, passed::Oldest};
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
    oldest: Oldest,
    /// What found no room.
    refused: u64,
}

impl Told {
    pub(super) fn fill(&self) -> (usize, u64) {
        (self.told.len(), self.refused)
    }

    /// Whether this is only what comes late of a connection that has had its verdict: the server's end of one that its client
    /// had left, or the silence of one whose answer was lost.
    pub(super) fn already(&self, flow: &Flow) -> bool {
        let silence = flow.client_end.is_none()
            && flow.server_end.is_none()
            && flow.server_reset.is_none()
            && (flow.seldom().given_up.is_some() || flow.seldom().lost_answer.is_some());
        let late_end = flow.client_end.is_none()
            && flow
                .server_end
                .as_ref()
                .is_some_and(|e| e.old == TcpState::CloseWait);
        (late_end || silence) && key(flow).is_some_and(|key| self.told.contains_key(&key))
    }

    pub(super) fn keep(&mut self, flow: &Flow) {
        let server_holds_it =
            flow.server_end.is_none() && flow.client_end.is_some() && !flow.failed_to_connect();
        let silent = flow.lost().is_some() || flow.cut_off().is_some();
        if !server_holds_it && !silent {
            return;
        }
        if let (Some(key), Some(ended)) = (key(flow), flow.ended) {
            if self.told.len() < MAX_TOLD {
                self.told.insert(key, ended);
                self.oldest.note(ended);
            } else {
                self.refused += 1;
            }
        }
    }

    pub(super) fn forget(&mut self, now: Ktime) {
        if !self.oldest.take(now.minus_ms(REMEMBERED_MS)) {
            return;
        }
        self.told.retain(|_, ended| {
            let stays = now < ended.plus_ms(REMEMBERED_MS);
            if stays {
                self.oldest.note(*ended);
            }
            stays
        });
    }
}

fn key(flow: &Flow) -> Option<(SocketAddr, SocketAddr)> {
    Some((flow.client_as_seen(), flow.server_addr()?))
}
