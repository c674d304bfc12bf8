//! Asks the connection tracking table where one connection was sent: a point lookup, never a dump and never a
//! subscription (while anybody listens, the kernel allocates an event extension for every new flow).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Status, Tuple as TupleAttribute,
    },
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_NETFILTER};
use nix::{
    libc,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::{TimeVal, TimeValLike},
    },
};

use crate::input::{Translation, Tuple};

/// How long an answer may take, milliseconds. The kernel answers within the system call that asks.
const TIMEOUT_MS: i64 = 50;

/// An entry with every attribute stays far below this.
const BUFFER_LEN: usize = 8192;

/// Why a lookup gave no answer. That there is no entry is an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netfilter netlink socket: {0}")]
    Open(io::Error),
    #[error("{from} and {to} are not of one address family")]
    MixedFamilies { from: SocketAddr, to: SocketAddr },
    #[error("cannot ask the connection tracking table: {0}")]
    Ask(io::Error),
    #[error("the kernel refuses to read the connection tracking table: zdt needs CAP_NET_ADMIN")]
    NotPermitted,
    #[error("the connection tracking table gave no answer within {TIMEOUT_MS} ms")]
    Timeout,
    #[error("the connection tracking table answered something else: {0}")]
    Answer(String),
}

/// A netlink socket in one network namespace.
pub struct Lookup {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Lookup {
    /// Opens a socket in the network namespace of the calling thread and stays in it.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(Error::Open)?;
        let timeout = TimeVal::milliseconds(TIMEOUT_MS);
        setsockopt(&socket, ReceiveTimeout, &timeout).map_err(|e| Error::Open(e.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Where the connection that a client opened `orig.from` → `orig.to` was sent. Waits at most 50 ms.
    pub fn translation(&mut self, orig: Tuple) -> Result<Translation, Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = request(orig, self.sequence)?;
        self.socket.send(&request, 0).map_err(Error::Ask)?;
        loop {
            let length = match self.socket.recv(&mut self.buffer.as_mut_slice(), 0) {
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(Error::Timeout),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::Ask(e)),
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes)
                .map_err(|e| Error::Answer(e.to_string()))?;
            // The answer to an earlier question that had timed out.
            if message.header.sequence_number == self.sequence {
                return answer(orig, message.payload);
            }
        }
    }
}

fn request(orig: Tuple, sequence: u32) -> Result<Vec<u8>, Error> {
    let family = match (orig.from.ip(), orig.to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => NetfilterProtoFamily::IPv4,
        (IpAddr::V6(_), IpAddr::V6(_)) => NetfilterProtoFamily::IPv6,
        _ => {
            return Err(Error::MixedFamilies {
                from: orig.from,
                to: orig.to,
            });
        }
    };
    let tuple = vec![
        TupleAttribute::Ip(vec![
            IPTuple::SourceAddress(orig.from.ip()),
            IPTuple::DestinationAddress(orig.to.ip()),
        ]),
        TupleAttribute::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(orig.from.port()),
            ProtoTuple::DestinationPort(orig.to.port()),
        ]),
    ];
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(NetfilterMessage::new(
            NetfilterHeader::new(family, 0, 0),
            ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]),
        )),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Ok(bytes)
}

fn answer(orig: Tuple, payload: NetlinkPayload<NetfilterMessage>) -> Result<Translation, Error> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Error(error) => {
            let error = error.to_io();
            return match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(Translation {
                    protocol: crate::input::Protocol::Tcp,
                    orig,
                    reply: None,
                    replied: false,
                }),
                Some(libc::EPERM) => Err(Error::NotPermitted),
                _ => Err(Error::Ask(error)),
            };
        }
        other => return Err(Error::Answer(format!("{other:?}"))),
    };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
        return Err(Error::Answer(format!("{:?}", message.inner)));
    };
    let mut reply = None;
    let mut replied = false;
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleReply(parts) => reply = ends(parts),
            ConntrackAttribute::CtaStatus(status) => replied = status.contains(Status::SeenReply),
            _ => {}
        }
    }
    match reply {
        Some(reply) => Ok(Translation {
            protocol: crate::input::Protocol::Tcp,
            orig,
            reply: Some(reply),
            replied,
        }),
        None => Err(Error::Answer("an entry without a reply direction".to_owned())),
    }
}

/// Addresses and ports of one direction.
fn ends(parts: &[TupleAttribute]) -> Option<Tuple> {
    let (mut from, mut to, mut from_port, mut to_port) = (None, None, None, None);
    for part in parts {
        match part {
            TupleAttribute::Ip(ips) => {
                for ip in ips {
                    match ip {
                        IPTuple::SourceAddress(ip) => from = Some(*ip),
                        IPTuple::DestinationAddress(ip) => to = Some(*ip),
                        _ => {}
                    }
                }
            }
            TupleAttribute::Proto(protos) => {
                for proto in protos {
                    match proto {
                        ProtoTuple::SourcePort(port) => from_port = Some(*port),
                        ProtoTuple::DestinationPort(port) => to_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Tuple {
        from: SocketAddr::new(from?, from_port?),
        to: SocketAddr::new(to?, to_port?),
    })
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
