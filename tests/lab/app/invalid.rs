//! A segment that conntrack finds invalid: what a late or reordered packet of this connection looks like to it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd as _, RawFd},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

/// Far above any window: half of the sequence numbers lie behind it, too.
const OUT_OF_WINDOW: u32 = 1 << 29;

/// tcp(7) does not name them; include/uapi/linux/tcp.h does.
const RECEIVE_QUEUE: libc::c_int = 1;
const SEND_QUEUE: libc::c_int = 2;
const REPAIR_ON: libc::c_int = 1;
/// Bytes of an int, which is what these options are.
const INT: libc::socklen_t = 4;

/// Without a window probe (TCP_REPAIR_OFF_NO_WP).
const REPAIR_OFF: libc::c_int = -1;

/// Sends the peer a segment of this connection whose sequence number is far out of the window. conntrack does not
/// translate it (net/netfilter/nf_conntrack_proto_tcp.c tcp_in_window), so that it reaches the client from the pod's own
/// address. It acknowledges what the client has sent: the RST that answers it then fits this connection (RFC 9293 3.10.7).
pub(super) fn send(stream: &TcpStream) -> io::Result<()> {
    let (Some(local), Some(peer)) = (v4(stream.local_addr()?), v4(stream.peer_addr()?)) else {
        return Err(io::Error::other("an invalid segment needs a connection of IPv4"));
    };
    let (next, acknowledged) = sequence_numbers(stream)?;
    let segment = segment(local, peer, next.wrapping_add(OUT_OF_WINDOW), acknowledged);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(IpAddr::V4(*local.ip()), 0).into())?;
    socket.send_to(&segment, &SocketAddr::new(IpAddr::V4(*peer.ip()), 0).into())?;
    Ok(())
}

fn v4(addr: SocketAddr) -> Option<SocketAddrV4> {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, addr.port())),
        IpAddr::V6(_) => None,
    }
}

/// What it sends next, and what it expects next. The kernel tells them of a socket under repair (tcp(7), TCP_REPAIR).
fn sequence_numbers(stream: &TcpStream) -> io::Result<(u32, u32)> {
    let fd = stream.as_raw_fd();
    set(fd, libc::TCP_REPAIR, REPAIR_ON)?;
    let numbers = queue(fd, SEND_QUEUE).and_then(|next| Ok((next, queue(fd, RECEIVE_QUEUE)?)));
    set(fd, libc::TCP_REPAIR, REPAIR_OFF)?;
    numbers
}

fn queue(fd: RawFd, queue: libc::c_int) -> io::Result<u32> {
    set(fd, libc::TCP_REPAIR_QUEUE, queue)?;
    get(fd, libc::TCP_QUEUE_SEQ)
}

#[expect(unsafe_code, reason = "neither socket2 nor nix has these options")]
fn set(fd: RawFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is an int that outlives the call.
    let done = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, option, (&raw const value).cast(), INT) };
    if done == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

#[expect(unsafe_code, reason = "neither socket2 nor nix has these options")]
fn get(fd: RawFd, option: libc::c_int) -> io::Result<u32> {
    let mut value = 0_u32;
    let mut len = INT;
    // SAFETY: the value and its length outlive the call, and the kernel writes at most that much.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        return Ok(value);
    }
    Err(io::Error::last_os_error())
}

/// A TCP header without options or data (RFC 9293 3.1), with ACK and PSH.
fn segment(from: SocketAddrV4, to: SocketAddrV4, seq: u32, ack: u32) -> Vec<u8> {
    let words_and_flags: u16 = 5 << 12 | 0x18;
    let window = u16::MAX;
    let header = |checksum: u16| {
        [
            &from.port().to_be_bytes()[..],
            &to.port().to_be_bytes(),
            &seq.to_be_bytes(),
            &ack.to_be_bytes(),
            &words_and_flags.to_be_bytes(),
            &window.to_be_bytes(),
            &checksum.to_be_bytes(),
            &[0, 0],
        ]
        .concat()
    };
    header(checksum(*from.ip(), *to.ip(), &header(0)))
}

/// Of the segment behind its pseudo header (RFC 9293 3.1).
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let len = u16::try_from(segment.len()).unwrap_or(0);
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6], &len.to_be_bytes()].concat();
    let words = pseudo.chunks(2).chain(segment.chunks(2));
    let mut sum: u32 = words
        .map(|w| {
            u32::from(u16::from_be_bytes([
                w.first().copied().unwrap_or(0),
                w.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_with_its_checksum_sums_up_to_nothing() {
        let (from, to) = ("10.244.1.2:8080", "10.244.1.9:40000");
        let (from, to): (SocketAddrV4, SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
        let segment = segment(from, to, 7, 9);
        assert_eq!(segment.len(), 20);
        assert_eq!(checksum(*from.ip(), *to.ip(), &segment), 0);
    }

    #[tokio::test]
    async fn the_numbers_of_both_ends_fit_each_other() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (client, server) = (
            sequence_numbers(&client).unwrap(),
            sequence_numbers(&server).unwrap(),
        );
        assert_eq!((client.0, client.1), (server.1, server.0));
    }
}
