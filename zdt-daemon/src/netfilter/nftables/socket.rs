//! The two netlink sockets of the rule watcher: one that listens, one that asks.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        setsockopt,
        sockopt::{RcvBuf, RcvBufForce},
    },
};

use super::{
    Error,
    message::{self, Body, GETGEN, SUBSYSTEM},
};
use crate::netfilter::{
    asker::{self, Ended},
    netlink::{Frame, Frames, NLM_F_DUMP, put},
};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// Room for one notification; the kernel builds them in 4 KiB.
const PART: usize = 64 << 10;

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
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
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
            buffer: vec![0; PART],
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

/// How long the kernel may take for one part of a dump; it fills it within the system call that reads.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for what is there.
pub(super) struct Asker(asker::Asker);

impl Asker {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self(asker::Asker::open(PATIENCE).map_err(why)?))
    }

    /// The number of the current generation.
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let mut generation = None;
        let of = |frame: &Frame<'_>| match message::decode(frame).map(|m| m.body) {
            Ok(Body::Generation { id, .. }) => Some(id),
            _ => None,
        };
        let asked = self.0.ask(SUBSYSTEM << 8 | GETGEN, 0, 0, &[], |datagram| {
            generation = generation.or(Frames(datagram).flatten().find_map(|frame| of(&frame)));
            ControlFlow::Continue(())
        });
        asked.map_err(why)?;
        generation.ok_or_else(|| Error::Answer("no generation in its answer".to_owned()))
    }

    /// Every object of a kind, by datagram, restricted by name attributes. False if a writer came between.
    pub(super) fn dump(
        &mut self,
        get: u16,
        family: u8,
        names: &[(u16, &[u8])],
        mut part: impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let mut attributes = Vec::new();
        for (kind, name) in names {
            // Names end with a NUL.
            put(&mut attributes, *kind, &[name, &[0][..]].concat());
        }
        let kind = SUBSYSTEM << 8 | get;
        let asked = self.0.ask(kind, NLM_F_DUMP, family, &attributes, |datagram| {
            part(datagram);
            ControlFlow::Continue(())
        });
        match asked {
            Ok(ended) => Ok(ended == Ended::Whole),
            // What was asked for and went away meanwhile has nothing in it.
            Err(asker::Error::Refused(Errno::ENOENT)) => Ok(true),
            Err(error) => Err(why(error)),
        }
    }
}

fn why(error: asker::Error) -> Error {
    match error {
        asker::Error::Open(e) => Error::Open(e),
        asker::Error::Ask(e) => Error::Ask(e),
        asker::Error::Refused(Errno::EPERM) => Error::NotPermitted,
        asker::Error::Refused(Errno::EOPNOTSUPP | Errno::EINVAL) => Error::NoNfTables,
        asker::Error::Refused(errno) => Error::Ask(errno.into()),
        asker::Error::Timeout => Error::Timeout,
        asker::Error::Answer(what) => Error::Answer(what),
    }
}
