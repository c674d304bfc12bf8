//! The objects of the lab's cluster, with one resourceVersion for all kinds: what etcd and the watch cache are to a real one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{mpsc, watch};

pub use super::deletion::begin_deletion;
pub use super::entry::Object;
use super::entry::{Entry, Plural};
pub use super::watch::{Change, Watch};

/// How many changes a client may lag behind before it gets 410 Gone, unless the store is told otherwise.
pub const DEFAULT_HISTORY: usize = 4096;

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    #[error("{kind} {namespace}/{name} already exists: choose another name or update it")]
    AlreadyExists {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("{kind} {namespace}/{name} not found: it was never created or is already deleted")]
    NotFound {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("a {kind} without metadata.name: set a name before creating it")]
    NoName { kind: &'static str },
    #[error("{kind} {namespace}/{name} cannot be written as JSON: {why}")]
    Encode {
        kind: &'static str,
        namespace: String,
        name: String,
        why: String,
    },
}

/// All objects of one lab cluster. Clones share the same objects.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Tells HTTP watches that there is something new to read.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    version: u64,
    objects: BTreeMap<(Plural, String, String), Arc<Entry>>,
    log: VecDeque<Arc<LogEntry>>,
    history: usize,
    /// A watch may start at this version or later; what is older is forgotten.
    floor: u64,
    watchers: Vec<(Plural, mpsc::UnboundedSender<Arc<LogEntry>>)>,
}

/// One change. `before` and `after` are both there for an update; a selector needs both.
#[derive(Debug)]
pub(super) struct LogEntry {
    pub version: u64,
    pub at: tokio::time::Instant,
    pub before: Option<Arc<Entry>>,
    pub after: Option<Arc<Entry>>,
}

impl LogEntry {
    fn plural(&self) -> Option<Plural> {
        self.after
            .as_ref()
            .or(self.before.as_ref())
            .map(|entry| entry.plural)
    }
}

/// The asked version is older than the log: the client must list again (HTTP 410).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub oldest: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    pub fn new() -> Self {
        Self::with_history(DEFAULT_HISTORY)
    }

    /// A store that remembers the last `changes` changes for HTTP clients. `watch` of this type misses none all the same.
    pub fn with_history(changes: usize) -> Self {
        let state = State {
            version: 1,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            history: changes,
            floor: 1,
            watchers: Vec::new(),
        };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                version: watch::Sender::new(1),
            }),
        }
    }

    /// Stores a new object and sets its uid, resourceVersion and creationTimestamp (and generation, for apps/v1).
    pub fn create<K: Object>(&self, mut obj: K) -> Result<K, StoreError> {
        let mut state = self.lock();
        let meta = obj.metadata_mut();
        let Some(name) = meta.name.clone().filter(|name| !name.is_empty()) else {
            return Err(StoreError::NoName { kind: K::KIND });
        };
        let namespace = meta.namespace.clone().unwrap_or_default();
        let key = (Plural::of::<K>(), namespace.clone(), name.clone());
        if state.objects.contains_key(&key) {
            return Err(StoreError::AlreadyExists {
                kind: K::KIND,
                namespace,
                name,
            });
        }
        meta.uid = Some(random_uid());
        meta.creation_timestamp = Some(Time(Timestamp::now()));
        if K::GROUP == "apps" {
            meta.generation = Some(1);
        }
        self.commit(&mut state, key, None, obj)
    }

    /// Changes one object in place, atomically. No event and no new version when `change` changed nothing.
    pub fn update<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut K),
    ) -> Result<K, StoreError> {
        let mut state = self.lock();
        let key = (Plural::of::<K>(), namespace.to_owned(), name.to_owned());
        let (before, old) = Self::find::<K>(&state, &key)?;
        let mut new = old.clone();
        change(&mut new);
        // Identity is not the caller's to change.
        let (meta, was) = (new.metadata_mut(), old.metadata());
        meta.name.clone_from(&was.name);
        meta.namespace.clone_from(&was.namespace);
        meta.uid.clone_from(&was.uid);
        meta.resource_version.clone_from(&was.resource_version);
        meta.generation = was.generation;
        if new == old {
            return Ok(old);
        }
        // Controllers and `rollout status` compare status.observedGeneration with it.
        if K::GROUP == "apps" {
            let spec = |object: &K| {
                serde_json::to_value(object)
                    .ok()
                    .and_then(|json| json.get("spec").cloned())
            };
            if spec(&new) != spec(&old) {
                let generation = old.metadata().generation.unwrap_or_default() + 1;
                new.metadata_mut().generation = Some(generation);
            }
        }
        self.commit(&mut state, key, Some(before), new)
    }

    /// Removes the object; watchers get its last state as `Deleted`.
    pub fn remove<K: Object>(&self, namespace: &str, name: &str) -> Result<K, StoreError> {
        let mut state = self.lock();
        let key = (Plural::of::<K>(), namespace.to_owned(), name.to_owned());
        let (_, mut last) = Self::find::<K>(&state, &key)?;
        // The last state carries the version of the deletion, as the real server sends it.
        last.metadata_mut().resource_version = Some((state.version + 1).to_string());
        let gone = Arc::new(Self::encode(last.clone())?);
        state.objects.remove(&key);
        self.append(&mut state, Some(gone), None);
        Ok(last)
    }

    pub fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<K> {
        let key = (Plural::of::<K>(), namespace.to_owned(), name.to_owned());
        Self::find::<K>(&self.lock(), &key).ok().map(|(_, object)| object)
    }

    /// All objects of one kind, in the order of namespace and name.
    pub fn list<K: Object>(&self) -> Vec<K> {
        Self::all(&self.lock(), Plural::of::<K>())
            .iter()
            .filter_map(|entry| entry.typed())
            .collect()
    }

    /// First what exists (`Applied`), then every change in order. Ends when the store is dropped.
    pub fn watch<K: Object>(&self) -> Watch<K> {
        let mut state = self.lock();
        #[expect(
            clippy::disallowed_methods,
            reason = "a bounded queue would block the store or lose a change; a lab run is bounded"
        )]
        let (sender, changes) = mpsc::unbounded_channel();
        let existing = Self::all(&state, Plural::of::<K>());
        state.watchers.push((Plural::of::<K>(), sender));
        Watch::new(existing.into(), changes)
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Drops the event log, as a compaction of etcd does: HTTP watches from an older version get 410 Gone.
    pub fn forget_history(&self) {
        let mut state = self.lock();
        // The step makes even the newest version that a client can know too old.
        state.version += 1;
        state.floor = state.version;
        state.log.clear();
        self.inner.version.send_replace(state.version);
    }

    /// What a list answers: the version and all entries of one kind at that version.
    pub(super) fn snapshot(&self, plural: Plural) -> (u64, Vec<Arc<Entry>>) {
        let state = self.lock();
        (state.version, Self::all(&state, plural))
    }

    /// The changes of one kind after `version`, and the version up to which they are complete.
    pub(super) fn since(&self, plural: Plural, version: u64) -> Result<(u64, Vec<Arc<LogEntry>>), Gone> {
        let state = self.lock();
        // A version from the future belongs to another store: the client must list again too.
        if version < state.floor || version > state.version {
            return Err(Gone { oldest: state.floor });
        }
        let first = state.log.partition_point(|event| event.version <= version);
        let events = state
            .log
            .range(first..)
            .filter(|event| event.plural() == Some(plural))
            .cloned()
            .collect();
        Ok((state.version, events))
    }

    pub(super) fn versions(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // State is changed only by complete steps, so it is whole even if a caller's closure panicked.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(state: &State, plural: Plural) -> Vec<Arc<Entry>> {
        let from = (plural, String::new(), String::new());
        state
            .objects
            .range(from..)
            .take_while(|(key, _)| key.0 == plural)
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }

    fn find<K: Object>(state: &State, key: &(Plural, String, String)) -> Result<(Arc<Entry>, K), StoreError> {
        let missing = || StoreError::NotFound {
            kind: K::KIND,
            namespace: key.1.clone(),
            name: key.2.clone(),
        };
        let entry = state.objects.get(key).ok_or_else(missing)?;
        let object = entry.typed().ok_or_else(missing)?;
        Ok((Arc::clone(entry), object))
    }

    fn encode<K: Object>(object: K) -> Result<Entry, StoreError> {
        let meta = object.metadata();
        let (namespace, name) = (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        Entry::new(object).map_err(|error| StoreError::Encode {
            kind: K::KIND,
            namespace,
            name,
            why: error.to_string(),
        })
    }

    fn commit<K: Object>(
        &self,
        state: &mut State,
        key: (Plural, String, String),
        before: Option<Arc<Entry>>,
        mut object: K,
    ) -> Result<K, StoreError> {
        object.metadata_mut().resource_version = Some((state.version + 1).to_string());
        let entry = Arc::new(Self::encode(object.clone())?);
        state.objects.insert(key, Arc::clone(&entry));
        self.append(state, before, Some(entry));
        Ok(object)
    }

    fn append(&self, state: &mut State, before: Option<Arc<Entry>>, after: Option<Arc<Entry>>) {
        state.version += 1;
        let at = tokio::time::Instant::now();
        let event = Arc::new(LogEntry {
            version: state.version,
            at,
            before,
            after,
        });
        state.watchers.retain(|(plural, sender)| {
            if event.plural() == Some(*plural) {
                sender.send(Arc::clone(&event)).is_ok()
            } else {
                !sender.is_closed()
            }
        });
        state.log.push_back(event);
        while state.log.len() > state.history {
            if let Some(dropped) = state.log.pop_front() {
                state.floor = dropped.version;
            }
        }
        self.inner.version.send_replace(state.version);
    }
}

/// A random (version 4) UUID.
fn random_uid() -> String {
    let mut bits = fastrand::u128(..);
    bits = bits & !(0xf << 76) | 0x4 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let mut uid = String::with_capacity(36);
    for (index, digit) in hex.chars().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            uid.push('-');
        }
        uid.push(digit);
    }
    uid
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
