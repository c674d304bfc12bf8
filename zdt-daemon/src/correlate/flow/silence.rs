//! Signs of an established connection whose other side is silent.

use super::{CLOSE_NOTIFY_MOST, End, Flow};
use crate::input::{Ktime, TcpCounters, TcpState};

/// An answer that its process had written and closed, and that the kernel could not send any more.
#[derive(Clone, Copy, Debug)]
pub struct LostAnswer {
    /// When it first could not.
    pub at: Ktime,
    /// Bytes that the client has not acknowledged, the FIN left out.
    pub bytes: u32,
    /// Of these, the ones that were never sent at all: nobody can have them. The others may have arrived, and only their
    /// acknowledgement found no pod any more.
    pub never_left: u32,
    /// Bytes that it has.
    pub acked: u64,
}

/// A client that closed a connection to nobody: its FIN is sent again.
#[derive(Clone, Copy, Debug)]
pub struct GivenUp {
    pub at: Ktime,
    /// FIN_WAIT1: the server's FIN had not come. LAST_ACK: it had.
    pub state: TcpState,
    pub tcp: TcpCounters,
    /// How long nothing had come then; None: not told.
    pub silent_ms: Option<u64>,
}

impl GivenUp {
    /// Bytes of a request that nobody has acknowledged; its own FIN is one more.
    pub fn request(&self) -> u32 {
        self.tcp.unacked.saturating_sub(1)
    }
}

/// A client that closes within this time of the last byte has what it wanted; one that waits for more gives up later. The
/// first retransmit of its FIN, which tells, comes 200 ms behind the close at the earliest (include/net/tcp.h TCP_RTO_MIN).
const STALLED_MS: u64 = 1_000;

impl Flow {
    /// The client gave up on silence: its request was never acknowledged, or its answer never ended. The latter is a
    /// failure only where the server's process is gone: a living one may lose a packet, or a client its patience.
    pub fn cut_off(&self) -> Option<&GivenUp> {
        let given_up = self
            .seldom()
            .given_up
            .as_ref()
            .filter(|_| self.client_end.is_none())?;
        let unheard = given_up.request() > CLOSE_NOTIFY_MOST && self.server_end.is_none();
        (unheard || self.stalled(given_up)).then_some(given_up)
    }

    /// It got a part of an answer, and neither the rest nor the FIN. Where the server's side tells how much it wrote, that is
    /// compared; elsewhere only who went on waiting was not done.
    fn stalled(&self, given_up: &GivenUp) -> bool {
        let got = given_up.tcp.bytes_received;
        let open = given_up.request() == 0 && given_up.state == TcpState::FinWait1 && got > 0;
        open && match self.written() {
            Some(written) => written > got,
            None => self.server_end.is_none() && given_up.silent_ms.is_none_or(|ms| ms >= STALLED_MS),
        }
    }

    /// Bytes that the server's process had written when it closed, where its kernel tells.
    fn written(&self) -> Option<u64> {
        let lost = self.seldom().lost_answer.map(|l| l.acked + u64::from(l.bytes));
        let closed = self.server_end.as_deref().filter(|e| e.closed_first());
        lost.or_else(|| closed.map(End::written))
    }

    /// Bytes of an answer that no client can have: they never left, or it hung up without them.
    pub fn lost(&self) -> Option<&LostAnswer> {
        let without = || self.seldom().given_up.as_ref().is_some_and(|g| self.stalled(g));
        self.seldom()
            .lost_answer
            .as_ref()
            .filter(|l| l.never_left > 0 || without())
    }

    /// That the answer had not ended is all that speaks for a failure.
    pub fn only_unfinished(&self) -> bool {
        self.lost().is_none() && self.cut_off().is_some_and(|g| g.request() == 0)
    }
}
