//! The two netlink sockets of the rule watcher: one that listens, one that asks.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            setsockopt,
            sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{
    Error,
    message::{self, Body, Frame, Frames, GETGEN, NLMSG_DONE, NLMSG_ERROR, SUBSYSTEM},
};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// A dump comes in parts of up to 32 KiB (`netlink_recvmsg` caps them), a notification in 4 KiB.
const PART: usize = 64 << 10;

/// How long the kernel may take for one part of a dump, seconds; it fills it within the system call that reads.
const TIMEOUT_S: i64 = 2;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
/// The tables changed while the dump ran: it may have holes.
const NLM_F_DUMP_INTR: u16 = 0x10;

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    Ok(socket)
}

fn part() -> Vec<u8> {
    vec![0; PART]
}

/// What reading the notifications gave.
pub(super) enum Notified<'a> {
    Datagram(&'a [u8]),
    /// Nothing more now.
    Empty,
    /// Something was lost.
    Overrun,
}

/// Receives notifications.
pub(super) struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Listener {
    /// With room for so many bytes of notifications that wait.
    pub(super) fn open(room: usize) -> Result<Self, Error> {
        let socket = open().map_err(Error::Open)?;
        socket.set_non_blocking(true).map_err(Error::Open)?;
        // Beyond net.core.rmem_max with CAP_NET_ADMIN in the first user namespace; as far as it goes without.
        if setsockopt(&socket, RcvBufForce, &room).is_err() {
            setsockopt(&socket, RcvBuf, &room).map_err(|e| Error::Open(e.into()))?;
        }
        socket.add_membership(GROUP).map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM) => Error::NotPermitted,
            _ => Error::Open(e),
        })?;
        Ok(Self {
            socket,
            buffer: part(),
        })
    }

    /// The next datagram, without waiting.
    pub(super) fn read(&mut self) -> Result<Notified<'_>, Error> {
        loop {
            return match self.socket.recv(&mut self.buffer.as_mut_slice(), libc::MSG_TRUNC) {
                // What does not fit is lost.
                Ok(length) => Ok(self
                    .buffer
                    .get(..length)
                    .map_or(Notified::Overrun, Notified::Datagram)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Notified::Empty),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Notified::Overrun),
                Err(e) => Err(Error::Read(e)),
            };
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Asks for what is there.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Asker {
    pub(super) fn open() -> Result<Self, Error> {
        let socket = open().map_err(Error::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Open)?;
        let timeout = TimeVal::seconds(TIMEOUT_S);
        setsockopt(&socket, ReceiveTimeout, &timeout).map_err(|e| Error::Open(e.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: part(),
        })
    }

    /// The number of the current generation.
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let mut generation = None;
        let of = |frame: &Frame<'_>| match message::decode(frame).map(|m| m.body) {
            Ok(Body::Generation { id, .. }) => Some(id),
            _ => None,
        };
        self.ask(GETGEN, 0, 0, &[], |datagram| {
            generation = generation.or(Frames(datagram).flatten().find_map(|frame| of(&frame)));
        })?;
        generation.ok_or_else(|| Error::Answer("no generation in its answer".to_owned()))
    }

    /// Every object of a kind, by datagram, restricted by name attributes. False if a writer came between.
    pub(super) fn dump(
        &mut self,
        get: u16,
        family: u8,
        names: &[(u16, &[u8])],
        part: impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        self.ask(get, NLM_F_DUMP, family, names, part)
    }

    fn ask(
        &mut self,
        get: u16,
        flags: u16,
        family: u8,
        names: &[(u16, &[u8])],
        mut part: impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = request(get, NLM_F_REQUEST | flags, self.sequence, family, names);
        self.socket.send(&request, 0).map_err(Error::Ask)?;
        let mut consistent = true;
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
            let mut ended = flags & NLM_F_DUMP == 0;
            for frame in Frames(datagram) {
                let frame = frame.map_err(|e| Error::Answer(e.to_string()))?;
                if frame.sequence != self.sequence {
                    // The rest of an answer that had timed out.
                    ended = false;
                    break;
                }
                consistent &= frame.flags & NLM_F_DUMP_INTR == 0;
                ended |= frame.kind == NLMSG_DONE || frame.kind == NLMSG_ERROR;
                if frame.kind == NLMSG_ERROR {
                    refusal(&frame)?;
                }
            }
            if Frames(datagram)
                .flatten()
                .any(|frame| frame.sequence == self.sequence)
            {
                part(datagram);
            }
            if ended {
                return Ok(consistent);
            }
        }
    }
}

/// `NLMSG_ERROR` carries a negative errno. What was asked for and went away meanwhile has nothing in it.
fn refusal(frame: &Frame<'_>) -> Result<(), Error> {
    let code = message::native_u32(frame.payload).cast_signed();
    match Errno::from_raw(code.saturating_neg()) {
        Errno::ENOENT => Ok(()),
        Errno::EPERM => Err(Error::NotPermitted),
        Errno::EOPNOTSUPP | Errno::EINVAL => Err(Error::NoNfTables),
        errno => Err(Error::Ask(errno.into())),
    }
}

fn request(get: u16, flags: u16, sequence: u32, family: u8, names: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend((SUBSYSTEM << 8 | get).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0, 0, 0]);
    for (kind, name) in names {
        // The header's 4 bytes and the NUL; no name is near 64 KiB (`NFT_NAME_MAXLEN` is 256).
        let length = u16::try_from(name.len() + 5).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if let Some(field) = bytes.first_chunk_mut() {
        *field = length.to_ne_bytes();
    }
    bytes
}
