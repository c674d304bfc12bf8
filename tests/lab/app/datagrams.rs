//! The same server over UDP: one datagram is a request, one an answer.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, task::JoinSet, time::sleep};

use super::{Args, Shared};

/// Longest request; what is longer is cut.
const LIMIT: usize = 512;

/// The socket on the listener's address and port.
pub(super) fn bind(args: &Args) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(args.listen), Type::DGRAM, Some(Protocol::UDP))?;
    if args.listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&args.listen.into())?;
    UdpSocket::from_std(socket.into())
}

/// None: the parent process has the port. Sends each request back with the server's name behind it, `--response-delay-ms` later. Dropping it closes the socket
/// and forgets the requests in hand, as a process that exits does.
pub(super) async fn answer(socket: Option<UdpSocket>, shared: &Shared) -> Infallible {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    let socket = Arc::new(socket);
    let delay = Duration::from_millis(shared.args.response_delay_ms);
    let mut answers = JoinSet::new();
    let mut request = [0; LIMIT];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut request) => {
                // An ICMP error for an earlier answer is not this server's business.
                let Ok((length, peer)) = received else { continue };
                let mut answer = request.get(..length).unwrap_or_default().to_vec();
                answer.push(b' ');
                answer.extend_from_slice(shared.name.as_bytes());
                let socket = Arc::clone(&socket);
                answers.spawn(async move {
                    sleep(delay).await;
                    let _ = socket.send_to(&answer, peer).await;
                });
            }
            Some(_) = answers.join_next() => {}
        }
    }
}
