//! Server-sent events: outputs as they come, and how things stand (WHATWG HTML, 9.2 Server-sent events).
//!
//! A listener takes outputs from the kept ones at its own pace, so nothing waits for it and nothing is queued for it. One
//! that falls behind what is kept is told what it missed; one that takes nothing for [`PATIENCE_MS`] is dropped and counted.

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Frame, Incoming},
};
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::{
    answer::{Answer, bodied},
    query::query,
};
use crate::{clock, input::Ktime, report, sink::recent::Recent};

pub(super) const EVENTS: &str = "/api/v1/events";

/// Listeners at the same time. Each costs what the kernel buffers for its connection.
const MOST: usize = 16;

/// A comment is sent when there is nothing else for so long: it shows both ends that the other one is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A listener that takes nothing for so long, not even the heartbeat, is gone or stuck.
const PATIENCE_MS: f64 = 20_000.0;

/// Outputs, and bytes of them, that are put together to one piece.
const AT_ONCE: (usize, usize) = (100, 128 << 10);

/// How many of the kept outputs a new listener gets that does not say.
const LAST: u64 = 1_000;

/// When a connection became a listener's, and when it last asked for more; nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Default)]
pub(super) struct Listening(AtomicU64);

impl Listening {
    pub(super) fn began(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    /// Whether it is a listener that goes on.
    pub(super) fn takes(&self, now: Ktime) -> bool {
        self.began() && now.ms_since(Ktime(self.0.load(Relaxed))) < PATIENCE_MS
    }

    fn took(&self) {
        self.0.store(clock::now().0.max(1), Relaxed);
    }
}

/// Where a listener wants to begin.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Of the daemon that gave the number; None: of this one.
    boot: Option<String>,
    since: Option<u64>,
    last: Option<u64>,
}

impl Asked {
    pub(super) fn of(request: &Request<Incoming>) -> Self {
        let id = request.headers().get("last-event-id");
        let id = id.and_then(|id| id.to_str().ok()?.rsplit_once('.'));
        if let Some((boot, Ok(since))) = id.map(|(boot, seq)| (boot, seq.parse())) {
            return Self {
                boot: Some(boot.to_owned()),
                since: Some(since),
                last: None,
            };
        }
        let asked = query(request.uri().query().unwrap_or_default());
        let number = |name: &str| asked.get(name)?.parse().ok();
        Self {
            boot: asked.get("boot").cloned(),
            since: number("since"),
            last: number("last"),
        }
    }
}

/// How many there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<AtomicUsize>);

/// One of them, until it is dropped.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Listeners {
    /// The answer that goes on; None: there are too many.
    pub(super) fn listen(
        &self,
        recent: &Arc<Recent>,
        asked: &Asked,
        listening: &Arc<Listening>,
    ) -> Option<Answer> {
        let before = self.0.fetch_add(1, Relaxed);
        let seat = Seat(Arc::clone(&self.0));
        if before >= MOST {
            return None;
        }
        listening.took();
        let listener = Listener::new(Arc::clone(recent), asked, Arc::clone(listening), seat);
        let pieces = stream::unfold(listener, |mut listener| async move {
            let piece = listener.next().await;
            Some((Ok::<_, Infallible>(Frame::data(piece)), listener))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        Some(bodied(StatusCode::OK, "text/event-stream", body))
    }
}

struct Listener {
    recent: Arc<Recent>,
    changes: watch::Receiver<u64>,
    listening: Arc<Listening>,
    _seat: Seat,
    /// What is said first.
    greeting: Option<String>,
    boot: String,
    since: u64,
    /// Number of the state that was said last.
    state: Option<u64>,
}

impl Listener {
    fn new(recent: Arc<Recent>, asked: &Asked, listening: Arc<Listening>, seat: Seat) -> Self {
        let changes = recent.changes();
        let (_, state) = recent.state();
        let restarted = asked.boot.as_ref().is_some_and(|boot| *boot != state.boot);
        let since = match asked.since {
            Some(since) if !restarted => since,
            // All of it is news to whoever listened to the daemon before this one.
            Some(_) => 0,
            None => recent.newest().saturating_sub(asked.last.unwrap_or(LAST)),
        };
        let hello = json!({
            "node": state.node, "version": state.version, "boot": state.boot, "restarted": restarted, "since": since,
        });
        Self {
            changes,
            listening,
            _seat: seat,
            greeting: Some(format!("retry: 1000\nevent: hello\ndata: {hello}\n\n")),
            boot: state.boot,
            since,
            state: None,
            recent,
        }
    }

    /// The next piece; a heartbeat when there is nothing else.
    async fn next(&mut self) -> Bytes {
        self.listening.took();
        if let Some(greeting) = self.greeting.take() {
            return Bytes::from(greeting);
        }
        loop {
            self.changes.mark_unchanged();
            let piece = self.piece();
            if !piece.is_empty() {
                return Bytes::from(piece);
            }
            match timeout(HEARTBEAT, self.changes.changed()).await {
                Ok(Ok(())) => {}
                Err(_) | Ok(Err(_)) => return Bytes::from_static(b": still here\n\n"),
            }
        }
    }

    /// Writing to a String cannot fail.
    fn piece(&mut self) -> String {
        let mut piece = String::new();
        let behind = self.recent.behind(self.since, AT_ONCE.0, AT_ONCE.1);
        if behind.missed > 0 {
            let _ = write!(piece, "event: missed\ndata: {{\"missed\":{}}}\n\n", behind.missed);
        }
        for kept in &behind.kept {
            let line = String::from_utf8_lossy(&kept.line);
            let _ = write!(
                piece,
                "id: {}.{}\nevent: output\ndata: {line}\n\n",
                self.boot, kept.seq
            );
        }
        self.since = behind.next;
        let (number, state) = self.recent.state();
        if self.state != Some(number)
            && let Ok(state) = report::json(&state)
        {
            self.state = Some(number);
            let _ = write!(piece, "event: state\ndata: {state}\n\n");
        }
        piece
    }
}
