//! One entry of the connection tracking table, as the kernel's netlink answers have it.
//!
//! Layout: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`; who fills it: `ctnetlink_fill_info` in
//! net/netfilter/nf_conntrack_netlink.c.

use std::net::{IpAddr, SocketAddr};

use super::netlink::{Attribute, Attributes, FAMILY_HEADER, Frame, Frames, IPV4, IPV6, Malformed, nest, put};
use crate::input::{Protocol, Tuple};

/// `NFNL_SUBSYS_CTNETLINK` is 1; with a number of `enum cntl_msg_types` in the lower byte.
pub(super) const NEW: u16 = 1 << 8;
pub(super) const GET: u16 = 1 << 8 | 1;

/// `enum ctattr_type`
pub(super) const TUPLE_ORIG: u16 = 1;
pub(super) const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;

/// `enum ctattr_tuple`
pub(super) const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// `enum ctattr_ip`
pub(super) const V4_SRC: u16 = 1;
const V4_DST: u16 = 2;
pub(super) const V6_SRC: u16 = 3;
const V6_DST: u16 = 4;
/// `enum ctattr_l4proto`
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
/// `CTA_PROTOINFO_TCP`, `CTA_PROTOINFO_TCP_STATE`
const PROTOINFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;

/// `IPS_SEEN_REPLY` (include/uapi/linux/netfilter/nf_conntrack_common.h)
const SEEN_REPLY: u32 = 1 << 1;

/// `enum tcp_conntrack` (include/uapi/linux/netfilter/nf_conntrack_tcp.h)
pub const TCP_SYN_SENT: u8 = 1;
pub const TCP_ESTABLISHED: u8 = 3;

/// An entry, as far as zdt asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// IANA number.
    pub protocol: u8,
    /// Ports are 0 where the protocol has none.
    pub orig: Tuple,
    pub reply: Tuple,
    /// A packet of the reply direction was seen: not UNREPLIED.
    pub replied: bool,
    /// `enum tcp_conntrack`; None: not TCP.
    pub tcp_state: Option<u8>,
}

/// The entries in a datagram of the kernel's.
pub fn entries(datagram: &[u8]) -> impl Iterator<Item = Result<Entry, Malformed>> {
    Frames(datagram).filter_map(|frame| match frame {
        Ok(frame) if frame.kind == NEW => Some(entry(&frame)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

fn entry(frame: &Frame<'_>) -> Result<Entry, Malformed> {
    let attributes = frame.payload.get(FAMILY_HEADER..);
    let (mut orig, mut reply, mut replied, mut tcp_state) = (None, None, false, None);
    for attribute in Attributes(attributes.ok_or(Malformed("no family header"))?) {
        let attribute = attribute?;
        match attribute.kind {
            TUPLE_ORIG => orig = Some(tuple(attribute.value)?),
            TUPLE_REPLY => reply = Some(tuple(attribute.value)?),
            STATUS => replied = attribute.u32()? & SEEN_REPLY != 0,
            PROTOINFO => tcp_state = state(attribute.value)?,
            _ => {}
        }
    }
    let (protocol, orig) = orig.ok_or(Malformed("an entry without an original direction"))?;
    let (_, reply) = reply.ok_or(Malformed("an entry without a reply direction"))?;
    Ok(Entry {
        protocol,
        orig,
        reply,
        replied,
        tcp_state,
    })
}

fn tuple(value: &[u8]) -> Result<(u8, Tuple), Malformed> {
    let (mut from, mut to, mut protocol, mut from_port, mut to_port) = (None, None, None, 0, 0);
    for part in Attributes(value) {
        let part = part?;
        for field in Attributes(part.value) {
            let field = field?;
            match (part.kind, field.kind) {
                (TUPLE_IP, V4_SRC | V6_SRC) => from = Some(ip(&field)?),
                (TUPLE_IP, V4_DST | V6_DST) => to = Some(ip(&field)?),
                (TUPLE_PROTO, PROTO_NUM) => protocol = field.value.first().copied(),
                (TUPLE_PROTO, PROTO_SRC_PORT) => from_port = port(&field)?,
                (TUPLE_PROTO, PROTO_DST_PORT) => to_port = port(&field)?,
                _ => {}
            }
        }
    }
    match (protocol, from, to) {
        (Some(protocol), Some(from), Some(to)) if from.is_ipv4() == to.is_ipv4() => {
            let (from, to) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
            Ok((protocol, Tuple { from, to }))
        }
        _ => Err(Malformed("a direction without protocol or addresses")),
    }
}

fn ip(field: &Attribute<'_>) -> Result<IpAddr, Malformed> {
    let v4 = || <[u8; 4]>::try_from(field.value).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(field.value).map(IpAddr::from);
    v4().or_else(|_| v6())
        .map_err(|_| Malformed("an address is not of 4 or 16 bytes"))
}

fn port(field: &Attribute<'_>) -> Result<u16, Malformed> {
    let bytes = field.value.try_into();
    bytes
        .map(u16::from_be_bytes)
        .map_err(|_| Malformed("a port is not of 2 bytes"))
}

fn state(value: &[u8]) -> Result<Option<u8>, Malformed> {
    for of_protocol in Attributes(value) {
        let of_protocol = of_protocol?;
        if of_protocol.kind != PROTOINFO_TCP {
            continue;
        }
        for field in Attributes(of_protocol.value) {
            let field = field?;
            if field.kind == TCP_STATE {
                return Ok(field.value.first().copied());
            }
        }
    }
    Ok(None)
}

/// `NFPROTO_*` of an address.
pub(super) fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    }
}

/// Appends one address of a `TUPLE_IP`.
pub(super) fn put_ip(bytes: &mut Vec<u8>, ip: IpAddr, v4: u16, v6: u16) {
    match ip {
        IpAddr::V4(ip) => put(bytes, v4, &ip.octets()),
        IpAddr::V6(ip) => put(bytes, v6, &ip.octets()),
    }
}

/// The attributes that ask for the entry with this original direction.
pub(super) fn put_orig(bytes: &mut Vec<u8>, protocol: Protocol, orig: Tuple) {
    nest(bytes, TUPLE_ORIG, |tuple| {
        nest(tuple, TUPLE_IP, |addrs| {
            put_ip(addrs, orig.from.ip(), V4_SRC, V6_SRC);
            put_ip(addrs, orig.to.ip(), V4_DST, V6_DST);
        });
        nest(tuple, TUPLE_PROTO, |ports| {
            put(ports, PROTO_NUM, &[protocol.number()]);
            put(ports, PROTO_SRC_PORT, &orig.from.port().to_be_bytes());
            put(ports, PROTO_DST_PORT, &orig.to.port().to_be_bytes());
        });
    });
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const RECORDED: &str = include_str!("../../tests/fixtures/netfilter/conntrack-notifications.jsonl");

    fn datagrams() -> Vec<Vec<u8>> {
        let datagram = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let hex = line["hex"].as_str().unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect()
        };
        RECORDED.lines().map(datagram).collect()
    }

    fn tuple(from: &str, to: &str) -> Tuple {
        Tuple {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    #[test]
    fn a_real_kernels_entries_are_read_and_its_deletions_are_not_entries() {
        let all: Vec<Entry> = datagrams()
            .iter()
            .flat_map(|d| entries(d).map(Result::unwrap))
            .collect();
        assert_eq!(all.len(), 24, "27 notifications, three of them DESTROY");
        let syn = Entry {
            protocol: 6,
            orig: tuple("10.99.0.1:53620", "10.96.0.80:80"),
            reply: tuple("10.244.0.19:8080", "10.244.0.1:47401"),
            replied: false,
            tcp_state: Some(TCP_SYN_SENT),
        };
        let translated = |e: &&Entry| e.reply.from != e.orig.to;
        let first = all
            .iter()
            .filter(translated)
            .find(|e| e.tcp_state == Some(TCP_SYN_SENT));
        assert_eq!(first, Some(&syn));
        assert!(all.iter().any(|e| e.orig.from.is_ipv6()));
        assert!(
            all.iter()
                .any(|e| e.tcp_state == Some(TCP_ESTABLISHED) && e.replied)
        );
    }

    #[test]
    fn an_entry_that_is_cut_off_anywhere_is_malformed_or_shorter_and_never_more() {
        for datagram in datagrams() {
            let whole = entries(&datagram).count();
            for length in 0..datagram.len() {
                assert!(entries(&datagram[..length]).flatten().count() <= whole.saturating_sub(1));
            }
        }
    }

    #[test]
    fn what_is_asked_for_reads_back_as_it_was_meant() {
        for orig in [
            tuple("10.0.0.1:1", "10.96.0.1:53"),
            tuple("[fd00::1]:1", "[fd00::2]:53"),
        ] {
            let mut bytes = Vec::new();
            put_orig(&mut bytes, Protocol::Udp, orig);
            let attribute = Attributes(&bytes).next().unwrap().unwrap();
            assert_eq!(attribute.kind, TUPLE_ORIG);
            assert_eq!(super::tuple(attribute.value), Ok((17, orig)));
        }
    }
}
