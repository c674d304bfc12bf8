//! One stored object with its type erased: what the HTTP side can serve and select on without knowing the kind.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the store can hold: every Kubernetes kind that has `ObjectMeta`.
pub trait Object:
    k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + PartialEq
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + PartialEq
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Names a kind as URLs do: API group (empty for core) and plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plural {
    pub group: &'static str,
    pub name: &'static str,
}

impl Plural {
    pub const fn of<K: k8s_openapi::Resource>() -> Self {
        Self {
            group: K::GROUP,
            name: K::URL_PATH_SEGMENT,
        }
    }
}

/// One version of one object. `json` is what clients get, `typed` is what the lab's own code gets: it keeps times
/// finer than the second, which the wire does not.
#[derive(Debug)]
pub struct Entry {
    pub plural: Plural,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub json: Value,
    typed: Arc<dyn Any + Send + Sync>,
}

impl Entry {
    pub fn new<K: Object>(object: K) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_value(&object)?;
        let meta = object.metadata();
        Ok(Self {
            plural: Plural::of::<K>(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            json,
            typed: Arc::new(object),
        })
    }

    /// The object itself; `None` only when asked for another kind than the stored one.
    pub fn typed<K: Object>(&self) -> Option<K> {
        self.typed.downcast_ref::<K>().cloned()
    }

    /// What a field selector compares; absent fields are empty, as in the real server.
    pub fn field(&self, path: &str) -> Option<&str> {
        let pointer = match path {
            "metadata.name" => return Some(&self.name),
            "metadata.namespace" => return Some(&self.namespace),
            "spec.nodeName" => "/spec/nodeName",
            "status.phase" => "/status/phase",
            _ => return None,
        };
        Some(
            self.json
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default(),
        )
    }
}
