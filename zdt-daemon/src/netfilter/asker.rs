//! A netlink socket that asks the kernel's netfilter and takes its answers, in parts where they are many.

use std::{io, ops::ControlFlow, time::Duration};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::{TimeVal, TimeValLike},
    },
};

use super::netlink::{
    Frame, Frames, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, native_u32, request,
};

/// A dump comes in parts of up to 32 KiB (net/netlink/af_netlink.c netlink_recvmsg caps them).
const PART: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot open a netfilter netlink socket: {0}")]
    Open(io::Error),
    #[error(transparent)]
    Ask(io::Error),
    /// The kernel's own error.
    #[error(transparent)]
    Refused(Errno),
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Answer(String),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of it came.
    Whole,
    /// All of it came, and what was read changed meanwhile.
    Interrupted,
    /// The reader wanted no more. The socket is of no further use: the kernel still has parts for it.
    Broken,
}

/// A socket in one network namespace. No subscription: the kernel writes to it only what it is asked for.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Asker {
    /// Opens a socket in the network namespace of the calling thread and stays in it. `patience` is for one part.
    pub(super) fn open(patience: Duration) -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Open)?;
        let timeout = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, ReceiveTimeout, &timeout).map_err(|e| Error::Open(e.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; PART],
        })
    }

    /// Asks, and gives each datagram of the answer to `take`. An answer that is an error is an error.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attributes: &[u8],
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Ended, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = request(kind, flags, self.sequence, family, attributes);
        self.socket.send(&request, 0).map_err(Error::Ask)?;
        let mut ended = Ended::Whole;
        loop {
            let length = match self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_TRUNC) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(Error::Timeout),
                Err(e) => return Err(Error::Ask(e)),
            };
            let datagram = self.buffer.get(..length).ok_or_else(|| {
                Error::Answer(format!(
                    "a part of {length} bytes, more than the {PART} it may have"
                ))
            })?;
            let (mut ours, mut last) = (false, flags & NLM_F_DUMP == 0);
            for frame in Frames(datagram) {
                let frame = frame.map_err(|e| Error::Answer(e.to_string()))?;
                if frame.sequence != self.sequence {
                    // The rest of an answer that had timed out.
                    continue;
                }
                ours = true;
                if frame.flags & NLM_F_DUMP_INTR != 0 {
                    ended = Ended::Interrupted;
                }
                match frame.kind {
                    NLMSG_DONE => last = true,
                    NLMSG_ERROR => return refusal(&frame).map(|()| ended),
                    _ => {}
                }
            }
            if !ours {
                continue;
            }
            if take(datagram).is_break() {
                return Ok(Ended::Broken);
            }
            if last {
                return Ok(ended);
            }
        }
    }
}

/// `NLMSG_ERROR` carries a negative errno; 0 is no error.
fn refusal(frame: &Frame<'_>) -> Result<(), Error> {
    let code = native_u32(frame.payload).cast_signed();
    match Errno::from_raw(code.saturating_neg()) {
        Errno::UnknownErrno if code == 0 => Ok(()),
        errno => Err(Error::Refused(errno)),
    }
}
