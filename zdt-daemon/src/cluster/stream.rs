//! One watch without end: a list, the changes after it, and on again from there where it breaks.
//!
//! kube's own watcher does not say when a watch that broke goes on, and asks for an expired version again for ever
//! (kube-runtime 5.0.0, watcher.rs, step_trampolined): a gap would have no end until something changes.

use std::{collections::VecDeque, fmt::Debug, time::Duration};

use futures::{
    StreamExt as _,
    stream::{BoxStream, unfold},
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{index::Event, reach::Retry};
use crate::clock;

/// Objects in one answer to a list, as client-go's reflector asks for.
const PAGE: u32 = 500;

/// An answer to a list's page, or the beginning of an answer to a watch, comes in this time or not at all.
const ANSWER: Duration = Duration::from_secs(10);

/// A watch that ended sooner than this is not asked for again at once.
const SHORT_MS: f64 = 1_000.0;

/// Gone: the version is older than what the API server remembers.
const EXPIRED: u16 = 410;

/// What comes through a watch.
#[derive(Debug)]
pub(super) enum Seen<K> {
    Event(Event<K>),
    /// The watch is there: what happened since it broke comes now.
    Began,
    /// Nothing but that it is there still.
    Bookmark,
}

/// Why it is interrupted.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("it does not answer")]
    Silent,
    #[error("the list has no version to watch from")]
    NoVersion,
}

enum State<K> {
    List {
        token: Option<String>,
    },
    Page {
        objects: VecDeque<K>,
        token: Option<String>,
        version: Option<String>,
    },
    Begin {
        version: String,
    },
    Watching {
        version: String,
        began: crate::input::Ktime,
        events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    },
}

struct Watch<K> {
    api: Api<K>,
    fields: Option<String>,
    state: State<K>,
    retry: Retry,
    wait: Option<Duration>,
    anew: watch::Receiver<()>,
}

/// Watches all objects that `fields` selects. A change of `anew` drops a connection on which nothing comes any more.
pub(super) fn watch<K>(
    client: &Client,
    fields: Option<String>,
    anew: watch::Receiver<()>,
) -> BoxStream<'static, Result<Seen<K>, Broken>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watch = Watch {
        api: Api::<K>::all(client.clone()),
        fields,
        state: State::List { token: None },
        retry: Retry::default(),
        wait: None,
        anew,
    };
    unfold(watch, |mut watch| async move {
        let seen = watch.next().await;
        Some((seen, watch))
    })
    .boxed()
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Result<Seen<K>, Broken> {
        if let Some(wait) = self.wait.take() {
            sleep(wait).await;
        }
        let seen = self.step().await;
        if let Err(broken) = &seen {
            let asked = asked_to_wait(broken);
            self.wait = self.retry.next().map(|own| own.max(asked));
        }
        seen
    }

    async fn step(&mut self) -> Result<Seen<K>, Broken> {
        loop {
            // An error leaves what is tried again.
            match &mut self.state {
                State::List { token } => {
                    let first = token.is_none();
                    let params = ListParams {
                        field_selector: self.fields.clone(),
                        limit: Some(PAGE),
                        continue_token: token.clone(),
                        ..ListParams::default()
                    };
                    let listed = timeout(ANSWER, self.api.list(&params)).await;
                    let list = match listed.map_err(|_| Broken::Silent).and_then(|l| Ok(l?)) {
                        Ok(list) => list,
                        Err(broken) => {
                            // A list that breaks off (its token may have expired) begins anew.
                            *token = None;
                            return Err(broken);
                        }
                    };
                    self.state = State::Page {
                        objects: list.items.into(),
                        token: list.metadata.continue_.filter(|t| !t.is_empty()),
                        version: list.metadata.resource_version.filter(|v| !v.is_empty()),
                    };
                    if first {
                        return Ok(Seen::Event(Event::Init));
                    }
                }
                State::Page {
                    objects,
                    token,
                    version,
                } => {
                    if let Some(object) = objects.pop_front() {
                        return Ok(Seen::Event(Event::InitApply(object)));
                    }
                    if token.is_some() {
                        self.state = State::List { token: token.take() };
                        continue;
                    }
                    let Some(version) = version.take() else {
                        self.state = State::List { token: None };
                        return Err(Broken::NoVersion);
                    };
                    self.state = State::Begin { version };
                    return Ok(Seen::Event(Event::InitDone));
                }
                State::Begin { version } => {
                    let params = WatchParams {
                        field_selector: self.fields.clone(),
                        ..WatchParams::default()
                    };
                    let began = timeout(ANSWER, self.api.watch(&params, version)).await;
                    match began.map_err(|_| Broken::Silent).and_then(|w| Ok(w?)) {
                        Ok(events) => {
                            self.anew.mark_unchanged();
                            self.state = State::Watching {
                                version: std::mem::take(version),
                                began: clock::now(),
                                events: events.boxed(),
                            };
                            return Ok(Seen::Began);
                        }
                        Err(broken) => {
                            if expired(&broken) {
                                self.state = State::List { token: None };
                            }
                            return Err(broken);
                        }
                    }
                }
                State::Watching {
                    version,
                    began,
                    events,
                } => {
                    let event = tokio::select! {
                        event = events.next() => event,
                        // Whoever tells the change has counted it. An error: nobody can tell any more.
                        Ok(()) = self.anew.changed() => None,
                    };
                    match event {
                        Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                            keep(version, &object);
                            return Ok(Seen::Event(Event::Apply(object)));
                        }
                        Some(Ok(WatchEvent::Deleted(object))) => {
                            keep(version, &object);
                            return Ok(Seen::Event(Event::Delete(object)));
                        }
                        Some(Ok(WatchEvent::Bookmark(mark))) => {
                            *version = mark.metadata.resource_version;
                            return Ok(Seen::Bookmark);
                        }
                        // The API server ends each watch now and then.
                        None => {
                            let short = clock::now().ms_since(*began) < SHORT_MS;
                            let version = std::mem::take(version);
                            self.state = State::Begin { version };
                            if let Some(wait) = self.retry.next().filter(|_| short) {
                                sleep(wait).await;
                            }
                        }
                        Some(Ok(WatchEvent::Error(status))) => {
                            let broken = Broken::Api(kube::Error::Api(status));
                            self.again_after(&broken);
                            return Err(broken);
                        }
                        Some(Err(error)) => {
                            let broken = Broken::Api(error);
                            self.again_after(&broken);
                            return Err(broken);
                        }
                    }
                }
            }
        }
    }

    /// Where a watch goes on that ended with an error.
    fn again_after(&mut self, broken: &Broken) {
        if let State::Watching { version, .. } = &mut self.state {
            let version = std::mem::take(version);
            self.state = if expired(broken) {
                State::List { token: None }
            } else {
                State::Begin { version }
            };
        }
    }
}

/// The version to go on from.
fn keep<K: Resource>(version: &mut String, object: &K) {
    if let Some(newer) = object.meta().resource_version.as_ref().filter(|v| !v.is_empty()) {
        version.clone_from(newer);
    }
}

fn expired(broken: &Broken) -> bool {
    matches!(broken, Broken::Api(kube::Error::Api(status)) if status.code == EXPIRED)
}

/// What a server that has too much to do asks for. Its priority and fairness says `Retry-After: 1` in the header alone, which
/// kube does not hand on (apiserver, server/filters/priority-and-fairness.go, retryAfter).
fn asked_to_wait(broken: &Broken) -> Duration {
    let Broken::Api(kube::Error::Api(status)) = broken else {
        return Duration::ZERO;
    };
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    let least = u64::from(status.code == 429);
    Duration::from_secs(u64::from(seconds).clamp(least, 30))
}
