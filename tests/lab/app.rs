//! The test server: a small HTTP/1.1 server (and one over UDP on the same port) whose behaviour at start, under load and at SIGTERM is chosen by switches.

mod accept;
mod args;
mod connection;
mod crash;
mod datagrams;
mod invalid;
mod socket;
mod upstream;
mod workers;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use args::{Args, OnSigterm};

/// What the signals have brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// SIGTERM came; it still accepts.
    Draining,
    /// The listener is closed: finish the request in flight and close.
    Closing,
    /// As closing, but the sending side of every connection is closed at once.
    HalfClosed,
}

/// What connections share.
struct Shared {
    args: Args,
    name: String,
    listening_since: Instant,
    stage: watch::Receiver<Stage>,
    /// Connections that are open.
    open: AtomicUsize,
    /// Requests that came, probes left out.
    requests: AtomicU64,
}

impl Shared {
    /// Whether the time given by a switch has come.
    fn past(&self, after_ms: Option<u64>) -> bool {
        after_ms.is_some_and(|ms| self.listening_since.elapsed() >= Duration::from_millis(ms))
    }
}

/// Serves until a signal says otherwise.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if !args.inherited {
        // The disposition must stand before the start-up delay: PID 1 of a namespace ignores what it does not handle
        // (pid_namespaces(7)), and a real server that is not up yet would not handle it either.
        sleep(Duration::from_millis(args.start_delay_ms)).await;
        if args.workers > 0 {
            return workers::supervise(&args).await;
        }
    }
    let mut signals = accept::Signals::new(&args)?;
    let listener = socket::listener(&args)?;
    let udp = if args.inherited {
        None
    } else {
        Some(datagrams::bind(&args)?)
    };
    tracing::info!(listen = %args.listen, "serving");
    let (stages, stage) = watch::channel(Stage::Serving);
    let name = nix::unistd::gethostname();
    let shared = std::sync::Arc::new(Shared {
        name: name.map_or_else(|_| "?".to_owned(), |n| n.to_string_lossy().into_owned()),
        listening_since: Instant::now(),
        stage,
        open: AtomicUsize::new(0),
        requests: AtomicU64::new(0),
        args,
    });
    let last = tokio::select! {
        never = crash::in_time(&shared.args) => match never {},
        never = datagrams::answer(udp, &shared) => match never {},
        last = accept::until_told(listener, &mut signals, &stages, &shared) => last,
    };
    // The listener is closed here. Go's Shutdown polls in the same way, from 1 ms on.
    stages.send_replace(last);
    while shared.open.load(Ordering::Acquire) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
