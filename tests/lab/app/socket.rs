//! The server's sockets: the listener with its backlog, and the options of a connection.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd},
    time::Duration,
};

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::Args;

/// Twice this is what the kernel allows (net.core.wmem_max): an answer of 200 kB fits and need not wait for the client.
const SEND_BUFFER: usize = 212_992;

/// Binds the listener, or takes over the one that the parent process passed as standard input.
pub(super) fn listener(args: &Args) -> anyhow::Result<TcpListener> {
    let bound = if args.inherited {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        std::net::TcpListener::from(socket)
    } else {
        bind(args.listen, args.backlog, args.defer_accept_s)
            .with_context(|| format!("cannot listen on {}: is the port taken?", args.listen))?
    };
    bound.set_nonblocking(true)?;
    Ok(TcpListener::from_std(bound)?)
}

/// A listener with a chosen backlog (Go's is net.core.somaxconn) instead of tokio's.
pub(super) fn bind(
    addr: SocketAddr,
    backlog: u32,
    defer_accept_s: Option<u32>,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if let Some(seconds) = defer_accept_s {
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// The options of an accepted connection.
pub(super) fn prepare(stream: &TcpStream, args: &Args) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if args.linger_0 {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(rate) = args.pace_bytes_s {
        socket.set_send_buffer_size(SEND_BUFFER)?;
        // socket(7), SO_MAX_PACING_RATE: TCP paces by itself since Linux 4.13 (net/ipv4/tcp_output.c, tcp_pacing_check).
        set_option(stream, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, rate)?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "neither socket2 nor nix has these options")]
fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `socket`, and the option is a 32-bit number that outlives the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), 4) };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
