//! Accepts connections until a signal and what it asks for end that.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

use super::{Args, OnSigterm, Shared, Stage, connection, socket};

/// The signals that the server handles.
pub(super) struct Signals {
    term: Signal,
    quit: Option<Signal>,
}

impl Signals {
    pub(super) fn new(args: &Args) -> std::io::Result<Self> {
        let quit = args.on_sigquit.map(|_| signal(SignalKind::quit())).transpose()?;
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            quit,
        })
    }

    /// The next one, as what it does.
    async fn next(&mut self, args: &Args) -> OnSigterm {
        let quit = async {
            match &mut self.quit {
                Some(quit) => drop(quit.recv().await),
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => args.on_sigterm,
            () = quit => args.on_sigquit.unwrap_or(OnSigterm::Ignore),
        }
    }
}

/// Accepts until the listener is to be closed, which dropping it does. Returns how the connections end.
pub(super) async fn until_told(
    listener: TcpListener,
    signals: &mut Signals,
    stages: &watch::Sender<Stage>,
    shared: &Arc<Shared>,
) -> Stage {
    let told = told(signals, stages, &shared.args);
    tokio::pin!(told);
    let between = Duration::from_millis(shared.args.accept_delay_ms);
    loop {
        let accepted = tokio::select! {
            biased;
            last = &mut told => return last.stalled().await,
            accepted = listener.accept() => accepted,
        };
        let wait = match accepted {
            Ok((stream, _)) => {
                serve(stream, Arc::clone(shared));
                between
            }
            // EMFILE and the like pass; the peer sees a full backlog until then.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                Duration::from_millis(5)
            }
        };
        if !wait.is_zero() {
            tokio::select! {
                last = &mut told => return last.stalled().await,
                () = sleep(wait) => {}
            }
        }
    }
}

/// How the connections end, and how long nobody accepts before.
struct Told(Stage, Duration);

impl Told {
    async fn stalled(self) -> Stage {
        let Self(stage, stall) = self;
        sleep(stall).await;
        stage
    }
}

/// Ends when nobody accepts any more.
async fn told(signals: &mut Signals, stages: &watch::Sender<Stage>, args: &Args) -> Told {
    let now = |stage| Told(stage, Duration::ZERO);
    let drain = Duration::from_millis(args.drain_ms);
    loop {
        let asked = signals.next(args).await;
        if asked != OnSigterm::Ignore {
            stages.send_replace(Stage::Draining);
        }
        match asked {
            OnSigterm::Exit => {
                sleep(Duration::from_millis(args.exit_delay_ms)).await;
                std::process::exit(0);
            }
            OnSigterm::CloseListener => return now(Stage::Closing),
            OnSigterm::DrainFirst => {
                sleep(drain).await;
                return now(Stage::Closing);
            }
            OnSigterm::StallFirst => return Told(Stage::Closing, drain),
            OnSigterm::HalfClose => return now(Stage::HalfClosed),
            OnSigterm::Ignore => tracing::info!("a signal ignored, as asked"),
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
        if let Err(error) = socket::prepare(&stream, &shared.args) {
            tracing::warn!(%error, "a connection keeps the kernel's defaults");
        }
        // An error here is the peer's: it hung up. The peer's own record says so.
        let _ = connection::serve(stream, &shared).await;
        shared.open.fetch_sub(1, Ordering::AcqRel);
    });
}
