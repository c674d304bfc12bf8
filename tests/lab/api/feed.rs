//! One running HTTP watch: turns the store's log into the lines of a watch response, as the API server's watch cache does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Entry;
use super::request::{Question, Version};
use super::server::Switches;
use super::status::Failure;
use super::store::{LogEntry, Store};

/// How long a watch runs when the client names no timeout: the real server takes 30 to 60 minutes (minRequestTimeout).
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

pub struct Feed {
    store: Store,
    question: Question,
    switches: Arc<Switches>,
    versions: watch::Receiver<u64>,
    /// Lines that go out before any change.
    opening: VecDeque<Bytes>,
    /// Changes that were read from the log and not yet sent, complete up to `read_to`.
    pending: VecDeque<Arc<LogEntry>>,
    read_to: u64,
    /// Everything up to here was sent.
    sent_to: u64,
    deadline: Instant,
    next_bookmark: Instant,
    closed: watch::Receiver<()>,
    ended: bool,
}

impl Feed {
    /// A version that is no longer in the log gives a stream of one ERROR event with code 410: "once we have passed
    /// authn/authz/admission, and successfully parsed a resource version, other errors must fail with a watch event of
    /// type ERROR" (apiserver cacher.go Watch, newErrWatcher). An HTTP 410 here would be wrong: kube's watcher retries
    /// it for ever and never lists again.
    pub fn start(store: Store, question: Question, switches: Arc<Switches>) -> Self {
        let versions = store.versions();
        let plural = question.target.kind.plural;
        let mut opening = VecDeque::new();
        let mut ended = false;
        let sent_to = match question.version {
            Version::AtLeast(version) | Version::Exactly(version) if !question.initial_events => {
                if let Err(gone) = store.since(plural, version) {
                    opening.push_back(line("ERROR", &Failure::gone(version, gone.oldest).to_json()));
                    ended = true;
                }
                version
            }
            _ => {
                // Without a version: synthetic ADDED events for what exists ("get state and start at any").
                let (version, entries) = store.snapshot(plural);
                let existing = entries.iter().filter(|entry| question.selects(entry));
                opening.extend(existing.map(|entry| line("ADDED", &entry.json)));
                if question.initial_events {
                    opening.push_back(bookmark(&question, version, true));
                }
                version
            }
        };
        let now = Instant::now();
        let timeout = question.timeout_s.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let next_bookmark = now + switches.bookmark_every();
        let closed = switches.faults.closed();
        Self {
            store,
            question,
            switches,
            versions,
            opening,
            pending: VecDeque::new(),
            read_to: sent_to,
            sent_to,
            deadline: now + timeout,
            next_bookmark,
            closed,
            ended,
        }
    }

    /// One line an item, each given out as soon as its change happened (plus the delay that a test set).
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        futures::stream::unfold(self, async |mut feed| {
            let line = feed.next().await?;
            feed.switches.faults.unless_hanging().await;
            Some((Ok(line), feed))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.opening.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            while let Some(event) = self.pending.pop_front() {
                tokio::time::sleep_until(event.at + self.switches.watch_delay()).await;
                self.sent_to = event.version;
                if let Some(line) = self.shape(&event) {
                    return Some(line);
                }
            }
            self.sent_to = self.read_to;
            // Marked as seen before reading the log, so that a change in between wakes us again.
            self.versions.borrow_and_update();
            match self.store.since(self.question.target.kind.plural, self.sent_to) {
                Err(gone) => {
                    self.ended = true;
                    return Some(line("ERROR", &Failure::gone(self.sent_to, gone.oldest).to_json()));
                }
                Ok((read_to, events)) => {
                    self.read_to = read_to;
                    self.pending = events.into();
                }
            }
            if !self.pending.is_empty() {
                continue;
            }
            self.sent_to = self.read_to;
            let now = Instant::now();
            if now >= self.deadline {
                // The real server sends a last bookmark just before it ends a watch, so that clients resume there.
                self.ended = true;
                return self
                    .question
                    .bookmarks
                    .then(|| bookmark(&self.question, self.sent_to, false));
            }
            if now >= self.next_bookmark {
                self.next_bookmark = now + self.switches.bookmark_every();
                if self.question.bookmarks {
                    return Some(bookmark(&self.question, self.sent_to, false));
                }
            }
            tokio::select! {
                changed = self.versions.changed() => changed.ok()?,
                _ = self.closed.changed() => return None,
                () = tokio::time::sleep_until(self.deadline.min(self.next_bookmark)) => {}
            }
        }
    }

    /// What this client sees of a change: with a selector an object can come and go without being created or deleted
    /// (apiserver cacher, cache_watcher.go convertToWatchEvent).
    fn shape(&self, event: &LogEntry) -> Option<Bytes> {
        let selected =
            |entry: &Option<Arc<Entry>>| entry.clone().filter(|entry| self.question.selects(entry));
        match (selected(&event.before), selected(&event.after)) {
            (None, Some(after)) => Some(line("ADDED", &after.json)),
            (Some(_), Some(after)) => Some(line("MODIFIED", &after.json)),
            (Some(before), None) => {
                let mut last = before.json.clone();
                if let Some(version) = last.pointer_mut("/metadata/resourceVersion") {
                    *version = Value::String(event.version.to_string());
                }
                Some(line("DELETED", &last))
            }
            (None, None) => None,
        }
    }
}

fn bookmark(question: &Question, version: u64, initial_events_end: bool) -> Bytes {
    let kind = question.target.kind;
    let mut metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
    if initial_events_end && let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(
            "annotations".to_owned(),
            json!({ "k8s.io/initial-events-end": "true" }),
        );
    }
    line(
        "BOOKMARK",
        &json!({ "kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata }),
    )
}

fn line(what: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": what, "object": object }).to_string();
    text.push('\n');
    Bytes::from(text)
}
