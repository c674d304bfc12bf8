//! Signs of an established connection whose other side is silent.

use crate::input::{Ktime, TcpCounters, TcpState};

/// An answer that its process had written and closed, and that the kernel could not send any more.
#[derive(Clone, Copy, Debug)]
pub struct LostAnswer {
    /// When it first could not.
    pub at: Ktime,
    /// Bytes that the client has not acknowledged, the FIN left out.
    pub bytes: u32,
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
}

impl GivenUp {
    /// Bytes of a request that nobody has acknowledged; its own FIN is one more.
    pub fn request(&self) -> u32 {
        self.tcp.unacked.saturating_sub(1)
    }
}
