//! The DaemonSet controller: one pod for each node, replaced by RollingUpdate with maxUnavailable 1 and no surge.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::pods::{self, CONTROLLER_REVISION_HASH};
use super::queue::Queue;
use super::{Settings, names};
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Change, Store, StoreError, begin_deletion};

const SOURCE: Source<'static> = Source {
    component: "daemonset-controller",
    host: None,
};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let timings = settings.timings.clone();
    let mut rng = settings.rng("daemonset");
    let mut names = settings.rng("daemonset names");
    let mut sets = store.watch::<DaemonSet>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    loop {
        tokio::select! {
            biased;
            change = sets.next_timed() => {
                let Some((at, change)) = change else { return };
                if let Change::Applied(set) = change
                    && set.status.as_ref().and_then(|s| s.observed_generation) != set.metadata.generation
                {
                    queue.add(pods::key(&set.metadata), at + timings.replicaset_follows_spec.draw(&mut rng));
                }
            }
            change = members.next_timed() => {
                let Some((at, Change::Applied(pod) | Change::Deleted(pod))) = change else { return };
                if let Some(owner) = pods::controller_of(&pod.metadata, "DaemonSet") {
                    let key = (pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
                    queue.add(key, at + timings.replicaset_follows_pod.draw(&mut rng));
                }
            }
            key = queue.next() => {
                let Some(set) = store.get::<DaemonSet>(&key.0, &key.1) else { continue };
                if let Err(error) = reconcile(&store, &set, &settings.nodes, &mut names) {
                    tracing::debug!(%error, "daemonset controller: an object went by itself");
                }
            }
        }
    }
}

/// The nodes that get a pod: all of them. Its pods tolerate `unschedulable` (daemonset/util, AddOrUpdateDaemonPodTolerations).
fn nodes(store: &Store, settings: &[String]) -> Vec<String> {
    let known: Vec<String> = store
        .list::<Node>()
        .into_iter()
        .filter_map(|node| node.metadata.name)
        .collect();
    if known.is_empty() {
        settings.to_vec()
    } else {
        known
    }
}

fn reconcile(
    store: &Store,
    set: &DaemonSet,
    settings: &[String],
    rng: &mut fastrand::Rng,
) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&set.metadata);
    let spec = set.spec.clone().unwrap_or_default();
    let hash = names::template_hash(&spec.template);
    let nodes = nodes(store, settings);
    let mut by_node: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for pod in members(store, set) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        by_node.entry(node.unwrap_or_default()).or_default().push(pod);
    }
    for node in &nodes {
        // A pod that still terminates holds the node: without a surge the next one waits for its end (podsShouldBeOnNode).
        if by_node.get(node).is_some_and(|pods| !pods.is_empty()) {
            continue;
        }
        let owner = pods::owner::<DaemonSet>(&set.metadata);
        let pod_name = format!("{name}-{}", names::suffix(rng));
        let mut pod = pods::from_template(&spec.template, &namespace, pod_name.clone(), Some(owner));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(CONTROLLER_REVISION_HASH.to_owned(), hash.clone());
        // The scheduler would follow its node affinity; here it is bound at once.
        pod.spec.get_or_insert_default().node_name = Some(node.clone());
        store.create(pod)?;
        let said = format!("Created pod: {pod_name}");
        record(
            store,
            &reference(set),
            SOURCE,
            Said::normal("SuccessfulCreate", &said),
        );
    }
    let old = |pod: &&Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(CONTROLLER_REVISION_HASH)) != Some(&hash)
    };
    let serves = |pod: &Pod| pods::active(pod) && pods::ready(pod);
    let unavailable = nodes
        .iter()
        .filter(|node| !by_node.get(*node).is_some_and(|pods| pods.iter().any(serves)))
        .count();
    let all = || {
        by_node
            .values()
            .flatten()
            .filter(|pod| !pods::terminating(pod))
            .filter(old)
    };
    // Those that do not serve cost nothing; of the others one at a time (daemonset/update.go, rollingUpdate).
    let broken = all().filter(|pod| !serves(pod));
    let working = all()
        .filter(|pod| serves(pod))
        .take(1_usize.saturating_sub(unavailable));
    for pod in broken.chain(working) {
        let pod_name = pods::key(&pod.metadata).1;
        begin_deletion(store, &namespace, &pod_name, None)?;
        let said = format!("Deleted pod: {pod_name}");
        record(
            store,
            &reference(set),
            SOURCE,
            Said::normal("SuccessfulDelete", &said),
        );
    }
    write_status(store, set, &hash, nodes.len())
}

fn members(store: &Store, set: &DaemonSet) -> Vec<Pod> {
    let mut own = store.list::<Pod>();
    own.retain(|pod| {
        pods::controller_of(&pod.metadata, "DaemonSet")
            .is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
    });
    own
}

fn write_status(store: &Store, set: &DaemonSet, hash: &str, nodes: usize) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&set.metadata);
    let members = members(store, set);
    let int = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let active = || members.iter().filter(|pod| pods::active(pod));
    let ready = int(active().filter(|pod| pods::ready(pod)).count());
    let updated = active().filter(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(CONTROLLER_REVISION_HASH))
            .map(String::as_str)
            == Some(hash)
    });
    let status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        desired_number_scheduled: int(nodes),
        current_number_scheduled: int(active().count()),
        updated_number_scheduled: Some(int(updated.count())),
        number_ready: ready,
        number_available: Some(ready),
        number_unavailable: Some(int(nodes) - ready),
        ..DaemonSetStatus::default()
    };
    let written = store.update(&namespace, &name, |set: &mut DaemonSet| set.status = Some(status));
    written.map(drop)
}
