//! One client connection: connect, send, read, and what came of it.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    Args, Mode,
    pace::Job,
    ports::{self, Held},
};
use crate::{
    clock::monotonic_ns,
    truth::{Outcome, Phase, Request},
};

/// Longest answer that is read.
const ANSWER_LIMIT: usize = 1 << 20;

/// RFC 9112, 7.1.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The server closes right behind its answer.
const PEER_CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// A connection that may not have been dialled yet.
pub(super) struct Connection {
    remote: SocketAddr,
    stream: Option<TcpStream>,
    local: Option<SocketAddr>,
    served: u64,
    reusable: bool,
    port: Option<Held>,
}

/// What the peer sent back.
struct Answer {
    status: u16,
    server: Option<String>,
    keeps_open: bool,
}

/// How a request failed short of an errno.
enum Failure {
    Io(io::Error),
    /// End of file before the whole answer.
    Eof,
    NotHttp,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Connection {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            stream: None,
            local: None,
            served: 0,
            reusable: false,
            port: None,
        }
    }

    /// From this port; None: from one that the kernel chooses.
    pub(super) fn from_port(remote: SocketAddr, port: Option<Held>) -> Self {
        Self {
            port,
            ..Self::new(remote)
        }
    }

    /// Where the source port is to be used again: waits until the server has closed, for the side that closes first is
    /// the one that holds the port for a minute (RFC 9293, 3.6.1).
    pub(super) async fn closed_by_peer(mut self) {
        if let (Some(stream), Some(_)) = (&mut self.stream, &self.port) {
            let _ = timeout(PEER_CLOSES_WITHIN, stream.read(&mut [0])).await;
        }
    }

    /// Whether another request may go over it.
    pub(super) fn reusable(&self) -> bool {
        self.reusable
    }

    /// Ends when the peer ends this idle connection; never for one that is not dialled.
    pub(super) async fn ended(&mut self) {
        match &mut self.stream {
            // Any byte of an idle peer is as unexpected as its end.
            Some(stream) => drop(stream.read(&mut [0]).await),
            None => std::future::pending().await,
        }
    }

    /// Sends one request and waits for its answer, for `--timeout-ms` at most.
    pub(super) async fn request(&mut self, job: &Job, args: &Args) -> Request {
        let began_ns = monotonic_ns();
        let reused = self.served > 0;
        let mut phase = if self.stream.is_some() {
            Phase::Request
        } else {
            Phase::Connect
        };
        let limit = Duration::from_millis(args.timeout_ms);
        let abort = args
            .abort_after_ms
            .filter(|_| job.abort)
            .map(Duration::from_millis);
        let wait = abort.map_or(limit, |abort| abort.min(limit));
        let result = timeout(wait, self.exchange(job.id, args, &mut phase)).await;
        let ended_ns = monotonic_ns();
        self.served += 1;
        let (mut errno, mut status, mut server) = (None, None, None);
        self.reusable = false;
        let outcome = match result {
            Err(_) if abort.is_some_and(|abort| abort < limit) => Outcome::Aborted,
            Err(_) => Outcome::TimedOut,
            Ok(Ok(answer)) => {
                self.reusable = answer.keeps_open;
                status = Some(answer.status);
                server = answer.server;
                if answer.status >= 500 {
                    Outcome::ServedError
                } else {
                    Outcome::Ok
                }
            }
            Ok(Err(Failure::Eof)) => Outcome::ClosedEarly,
            Ok(Err(Failure::NotHttp)) => Outcome::ServedError,
            Ok(Err(Failure::Io(error))) => {
                errno = error.raw_os_error();
                outcome_of(errno)
            }
        };
        let answered = matches!(outcome, Outcome::Ok | Outcome::ServedError);
        let waits_for_peer = answered && self.port.is_some();
        if !self.reusable && !waits_for_peer {
            // Closed here, after the outcome is known: the socket of a timed-out request ends now, not later.
            self.stream = None;
        }
        Request {
            id: job.id,
            began_ns,
            ended_ns,
            local: self.local,
            remote: self.remote,
            outcome,
            phase,
            errno,
            status,
            server,
            reused,
        }
    }

    /// `id` is how a proxy's log tells which request it passed on.
    async fn exchange(&mut self, id: u64, args: &Args, phase: &mut Phase) -> Result<Answer, Failure> {
        let fresh = match self.stream.take() {
            Some(stream) => stream,
            None => self.dial()?,
        };
        let stream = self.stream.insert(fresh);
        if *phase == Phase::Connect {
            stream.writable().await?;
            if let Some(error) = stream.take_error()? {
                return Err(error.into());
            }
            *phase = Phase::Request;
            tokio::time::sleep(Duration::from_millis(args.send_delay_ms)).await;
        }
        let close = if args.mode == Mode::Keepalive {
            ""
        } else {
            "Connection: close\r\n"
        };
        let method = if args.head { "HEAD" } else { "GET" };
        let text = format!(
            "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: zdt-lab\r\nX-Request-Id: {id}\r\n{close}\r\n",
            args.path, self.remote
        );
        stream.write_all(text.as_bytes()).await?;
        *phase = Phase::Response;
        read_answer(stream, args.head).await
    }

    /// Begins to connect. The local port is known from here on, whatever becomes of the connection.
    fn dial(&mut self) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(self.remote),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(held) = &self.port {
            // The port's last connection may not be gone to the end.
            socket.set_reuse_address(true)?;
            socket.bind(&ports::any(self.remote, held.port).into())?;
        }
        let connected = socket.connect(&self.remote.into());
        let taken = |error: &io::Error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL);
        if self.port.is_some() && connected.as_ref().is_err_and(taken) {
            // It still tries to end its last connection, with a pod that does not answer: the kernel's choice, then.
            self.port = None;
            return self.dial();
        }
        self.local = socket
            .local_addr()
            .ok()
            .and_then(|a| a.as_socket())
            .filter(|a| a.port() != 0);
        match connected {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => TcpStream::from_std(socket.into()),
        }
    }
}

pub(super) fn outcome_of(errno: Option<i32>) -> Outcome {
    match errno {
        Some(libc::ECONNREFUSED) => Outcome::Refused,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Outcome::Reset,
        Some(libc::ETIMEDOUT) => Outcome::TimedOut,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES) => Outcome::Unreachable,
        _ => Outcome::LocalError,
    }
}

async fn read_answer(stream: &mut TcpStream, head_only: bool) -> Result<Answer, Failure> {
    let mut bytes = Vec::with_capacity(1024);
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > ANSWER_LIMIT {
            return Err(Failure::NotHttp);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Failure::Eof);
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).into_owned();
    let mut lines = text.lines();
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(Failure::NotHttp)?;
    let (mut length, mut server, mut keeps_open, mut chunked) = (None, None, true, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "x-served-by" => server = Some(value.to_owned()),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keeps_open = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    // Without a length the body ends with the connection (RFC 9112, 6.3).
    keeps_open &= length.is_some() || chunked;
    if head_only {
        length = Some(0);
    }
    // The lab's server sends no chunk that looks like the last one.
    let whole = |bytes: &[u8]| match length {
        Some(length) => bytes.len() >= head + length,
        None => chunked && bytes.get(head..).is_some_and(|body| body.ends_with(LAST_CHUNK)),
    };
    while !whole(&bytes) {
        if bytes.len() > ANSWER_LIMIT {
            return Err(Failure::NotHttp);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            if length.is_none() && !chunked {
                break;
            }
            return Err(Failure::Eof);
        }
    }
    Ok(Answer {
        status,
        server,
        keeps_open,
    })
}
