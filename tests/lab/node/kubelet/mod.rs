//! The kubelet: one task per pod of this node, driven by the pod watch.

mod container;
mod hook;
mod probe;
mod recorder;
mod register;
mod status;
mod stop;
mod worker;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::Node;
use crate::api::store::{Change, Store};

/// What the watch last said about a pod.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub pod: Arc<Pod>,
    /// When deletionTimestamp was first seen (or the object vanished).
    pub deleting: Option<Instant>,
    /// The object is gone: a force deletion, or the kubelet's own.
    pub gone: bool,
}

/// Seconds that a pod has to stop, as the deletion says, else as its spec says.
pub(crate) fn grace_s(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30)
}

/// Runs until the store closes. Pods of other nodes are not looked at.
pub(crate) async fn run(node: Arc<Node>, store: Store) {
    register::register(&node, &store);
    let mut watch = store.watch::<Pod>();
    let mut pods: BTreeMap<String, watch::Sender<Latest>> = BTreeMap::new();
    let mut workers = JoinSet::new();
    loop {
        let change = tokio::select! {
            change = watch.next() => change,
            Some(ended) = workers.join_next(), if !workers.is_empty() => {
                match ended {
                    Ok(uid) => drop(pods.remove(&uid)),
                    Err(error) => tracing::error!(%error, "a pod's worker ended badly"),
                }
                continue;
            }
        };
        let (pod, gone) = match change {
            Some(Change::Applied(pod)) => (pod, false),
            Some(Change::Deleted(pod)) => (pod, true),
            None => return,
        };
        if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) != Some(node.name()) {
            continue;
        }
        let Some(uid) = pod.metadata.uid.clone() else {
            continue;
        };
        let deletes = gone || pod.metadata.deletion_timestamp.is_some();
        match pods.get(&uid) {
            Some(known) => known.send_modify(|latest| {
                if deletes && latest.deleting.is_none() {
                    latest.deleting = Some(Instant::now());
                }
                latest.pod = Arc::new(pod);
                latest.gone = gone;
            }),
            None if gone => {}
            None => {
                let deleting = deletes.then(Instant::now);
                let (sender, latest) = watch::channel(Latest {
                    pod: Arc::new(pod),
                    deleting,
                    gone,
                });
                pods.insert(uid.clone(), sender);
                let (node, store) = (Arc::clone(&node), store.clone());
                workers.spawn(async move {
                    worker::Worker::new(node, store, latest).run().await;
                    uid
                });
            }
        }
    }
}
