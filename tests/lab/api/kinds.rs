//! The kinds that the lab's API server serves, and the discovery documents that follow from that list.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events;
use k8s_openapi::{ClusterResourceScope, ListableResource, NamespaceResourceScope};
use serde_json::{Value, json};

use super::entry::Plural;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub plural: Plural,
    pub version: &'static str,
    pub api_version: &'static str,
    pub kind: &'static str,
    pub list_kind: &'static str,
    pub namespaced: bool,
}

/// All of them. A new kind is one line here.
pub const SERVED: &[Served] = &[
    namespaced::<Pod>(),
    namespaced::<Service>(),
    namespaced::<Event>(),
    cluster_wide::<Node>(),
    cluster_wide::<Namespace>(),
    namespaced::<EndpointSlice>(),
    namespaced::<Deployment>(),
    namespaced::<ReplicaSet>(),
    namespaced::<StatefulSet>(),
    namespaced::<DaemonSet>(),
    namespaced::<Job>(),
    namespaced::<events::v1::Event>(),
];

const fn namespaced<K: ListableResource<Scope = NamespaceResourceScope>>() -> Served {
    served::<K>(true)
}

const fn cluster_wide<K: ListableResource<Scope = ClusterResourceScope>>() -> Served {
    served::<K>(false)
}

const fn served<K: ListableResource>(namespaced: bool) -> Served {
    Served {
        plural: Plural::of::<K>(),
        version: K::VERSION,
        api_version: K::API_VERSION,
        kind: K::KIND,
        list_kind: K::LIST_KIND,
        namespaced,
    }
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<Served> {
    let same =
        |kind: &&Served| kind.plural.group == group && kind.version == version && kind.plural.name == plural;
    SERVED.iter().find(same).copied()
}

/// `/version`: what clients may base decisions on is the minor version; it is that of the types in use.
pub fn version() -> Value {
    json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64" })
}

/// `/api`
pub fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

/// `/apis`
pub fn groups() -> Value {
    let mut names: Vec<&str> = SERVED
        .iter()
        .map(|kind| kind.plural.group)
        .filter(|group| !group.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let groups: Vec<Value> = names.into_iter().filter_map(group).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`
pub fn group(name: &str) -> Option<Value> {
    let kind = SERVED.iter().find(|kind| kind.plural.group == name)?;
    let version = json!({ "groupVersion": kind.api_version, "version": kind.version });
    Some(json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version,
    }))
}

fn verbs(kind: &Served) -> &'static [&'static str] {
    if kind.kind == "Event" {
        &["create", "get", "list", "watch"]
    } else {
        &["get", "list", "watch"]
    }
}

/// `/api/v1` and `/apis/<group>/<version>`
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&Served> = SERVED
        .iter()
        .filter(|kind| kind.plural.group == group && kind.version == version)
        .collect();
    let api_version = kinds.first()?.api_version;
    let resources: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            json!({
                "name": kind.plural.name,
                "singularName": kind.kind.to_lowercase(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": verbs(kind),
            })
        })
        .collect();
    Some(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources }),
    )
}
