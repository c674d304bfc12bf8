//! The namespace controller: empties a namespace that is to go, and removes it when nothing is left in it.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Event, Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
    events,
};

use super::pods;
use crate::api::{Object, Store, StoreError, begin_deletion};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store) {
    let mut namespaces = store.watch::<Namespace>();
    let mut members = store.watch::<Pod>();
    loop {
        tokio::select! {
            change = namespaces.next() => if change.is_none() { return },
            change = members.next() => if change.is_none() { return },
        }
        let mut ending = store.list::<Namespace>();
        ending.retain(|namespace| namespace.metadata.deletion_timestamp.is_some());
        for name in ending.into_iter().filter_map(|namespace| namespace.metadata.name) {
            if let Err(error) = empty(&store, &name) {
                tracing::debug!(%error, "namespace controller: an object went by itself");
            }
        }
    }
}

/// Owners first, so that nobody makes new pods; then the pods, each with its own grace; then what only tells of them. Each
/// change of a pod brings us back here.
fn empty(store: &Store, namespace: &str) -> Result<(), StoreError> {
    remove_all::<Deployment>(store, namespace)?;
    remove_all::<ReplicaSet>(store, namespace)?;
    remove_all::<StatefulSet>(store, namespace)?;
    remove_all::<DaemonSet>(store, namespace)?;
    remove_all::<Job>(store, namespace)?;
    let mut left = store.list::<Pod>();
    left.retain(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
    for pod in left.iter().filter(|pod| !pods::terminating(pod)) {
        begin_deletion(store, namespace, &pods::key(&pod.metadata).1, None)?;
    }
    if !store
        .list::<Pod>()
        .iter()
        .any(|pod| pod.metadata.namespace.as_deref() == Some(namespace))
    {
        remove_all::<Service>(store, namespace)?;
        remove_all::<EndpointSlice>(store, namespace)?;
        remove_all::<Event>(store, namespace)?;
        remove_all::<events::v1::Event>(store, namespace)?;
        store.remove::<Namespace>("", namespace)?;
    }
    Ok(())
}

fn remove_all<K: Object>(store: &Store, namespace: &str) -> Result<(), StoreError> {
    for object in store.list::<K>() {
        let (of, name) = pods::key(object.metadata());
        if of == namespace {
            store.remove::<K>(&of, &name)?;
        }
    }
    Ok(())
}
