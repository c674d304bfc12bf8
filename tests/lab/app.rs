//! The test server: a small HTTP/1.1 server whose behaviour at start and at SIGTERM is chosen by switches.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

/// Go's `net/http` Server.Shutdown counts a connection that has sent nothing as busy for 5 s
/// (server.go, closeIdleConns); then it is closed.
const NEW_CONNECTION_GRACE: Duration = Duration::from_secs(5);

/// Longest request head that is read; more is answered by a close.
const HEAD_LIMIT: usize = 16 * 1024;

/// What SIGTERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnSigterm {
    /// Exit at once; requests in flight are cut.
    Exit,
    /// Close the listener at once, finish the requests in flight, exit.
    CloseListener,
    /// Keep accepting for `--drain-ms`, then as `close-listener`.
    DrainFirst,
    /// Do nothing: SIGKILL ends it.
    Ignore,
}

/// Switches of the test server.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; `[::]:8080` also serves IPv4, as Go servers do
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What SIGTERM does
    #[arg(long, value_enum, default_value = "exit")]
    pub on_sigterm: OnSigterm,
    /// With `drain-first`: how long it still accepts after SIGTERM
    #[arg(long, default_value_t = 3000)]
    pub drain_ms: u64,
    /// Time before it listens
    #[arg(long, default_value_t = 0)]
    pub start_delay_ms: u64,
    /// Time between a request and its answer (not for `/ready`)
    #[arg(long, default_value_t = 0)]
    pub response_delay_ms: u64,
    /// Time between a request's arrival and its reading: a busy server, whose exit meets unread data
    #[arg(long, default_value_t = 0)]
    pub read_delay_ms: u64,
    /// Exit with status 1 after this time: a crash
    #[arg(long)]
    pub crash_after_ms: Option<u64>,
}

/// What connections share.
struct Shared {
    name: String,
    response_delay: Duration,
    read_delay: Duration,
    /// True: finish the request in flight and close.
    closing: watch::Receiver<bool>,
    /// Connections that are open.
    open: AtomicUsize,
}

/// Serves until a signal says otherwise.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // The disposition must stand before the start-up delay: PID 1 of a namespace ignores what it does not handle
    // (pid_namespaces(7)), and a real server that is not up yet would not handle it either.
    sleep(Duration::from_millis(args.start_delay_ms)).await;
    let mut sigterm = signal(SignalKind::terminate())?;
    let listener =
        bind(args.listen).with_context(|| format!("cannot listen on {}: is the port taken?", args.listen))?;
    tracing::info!(listen = %args.listen, "serving");
    let (close, closing) = watch::channel(false);
    let shared = Arc::new(Shared {
        name: nix::unistd::gethostname()
            .map_or_else(|_| "?".to_owned(), |n| n.to_string_lossy().into_owned()),
        response_delay: Duration::from_millis(args.response_delay_ms),
        read_delay: Duration::from_millis(args.read_delay_ms),
        closing,
        open: AtomicUsize::new(0),
    });
    let crash = async {
        match args.crash_after_ms {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = crash => std::process::exit(1),
        () = accept_until_term(&args, listener, &mut sigterm, &shared) => {}
    }
    // The listener is closed here. Go's Shutdown polls in the same way, from 1 ms on.
    let _ = close.send(true);
    while shared.open.load(Ordering::Acquire) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// A listener with Go's backlog (net.core.somaxconn) instead of tokio's.
fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until SIGTERM (and the drain time) is over; dropping `listener` closes it.
async fn accept_until_term(args: &Args, listener: TcpListener, sigterm: &mut Signal, shared: &Arc<Shared>) {
    let drained = async {
        loop {
            sigterm.recv().await;
            match args.on_sigterm {
                OnSigterm::Exit => std::process::exit(0),
                OnSigterm::CloseListener => return,
                OnSigterm::DrainFirst => return sleep(Duration::from_millis(args.drain_ms)).await,
                OnSigterm::Ignore => tracing::info!("SIGTERM ignored, as asked"),
            }
        }
    };
    tokio::pin!(drained);
    loop {
        tokio::select! {
            biased;
            () = &mut drained => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, Arc::clone(shared)),
                // EMFILE and the like pass; the peer sees a full backlog until then.
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(5)).await;
                }
            },
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test server is its own process: a task per connection"
)]
fn serve(stream: TcpStream, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::AcqRel);
    tokio::spawn(async move {
        // An error here is the peer's: it hung up. The peer's own record says so.
        let _ = connection(stream, &shared).await;
        shared.open.fetch_sub(1, Ordering::AcqRel);
    });
}

/// Serves one connection until the peer or `closing` ends it.
async fn connection(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut closing = shared.closing.clone();
    let mut head = Vec::with_capacity(1024);
    let mut served = 0u64;
    loop {
        let whole = tokio::select! {
            biased;
            whole = read_head(&mut stream, &mut head, shared.read_delay) => whole?,
            () = idle_too_long(&mut closing, served > 0) => false,
        };
        if !whole {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let ready = text.starts_with("get /ready ");
        let close = text.contains("\r\nconnection: close") || text.starts_with("get / http/1.0");
        head.clear();
        if !ready {
            sleep(shared.response_delay).await;
        }
        let close = close || *closing.borrow();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nX-Served-By: {}\r\nConnection: {}\r\n\r\nok\n",
            shared.name,
            if close { "close" } else { "keep-alive" }
        );
        stream.write_all(answer.as_bytes()).await?;
        served += 1;
        if close {
            return stream.shutdown().await;
        }
    }
}

/// Reads one request head. False: the peer closed, or the head is too long.
async fn read_head(
    stream: &mut TcpStream,
    head: &mut Vec<u8>,
    read_delay: Duration,
) -> std::io::Result<bool> {
    loop {
        if head.ends_with(b"\r\n\r\n") {
            return Ok(true);
        }
        if !read_delay.is_zero() {
            stream.readable().await?;
            sleep(read_delay).await;
        }
        if head.len() > HEAD_LIMIT || stream.read_buf(head).await? == 0 {
            return Ok(false);
        }
    }
}

/// Ends when the server closes and this idle connection is to be closed with it.
async fn idle_too_long(closing: &mut watch::Receiver<bool>, served: bool) {
    // The sender lives as long as the server: an error here means that the process is about to end.
    let _ = closing.wait_for(|closing| *closing).await;
    if !served {
        sleep(NEW_CONNECTION_GRACE).await;
    }
}
