//! The ReplicaSet controller: as many pods as wanted, and a status that counts them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::pods::{self, Key};
use super::queue::{Inbox, Queue};
use super::{Settings, names};
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Change, Store, begin_deletion};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let timings = settings.timings.clone();
    let mut rng = settings.rng("replicaset");
    let mut sets = store.watch::<ReplicaSet>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    let mut heard = Inbox::default();
    // The sets as this controller knows them. A rollout keeps its limits because the old set's smaller number is heard
    // of before the new set's bigger one that it made room for.
    let mut known: BTreeMap<Key, ReplicaSet> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            change = sets.next_timed() => {
                let Some((at, change)) = change else { return };
                let (Change::Applied(set) | Change::Deleted(set)) = &change;
                // Our own status update needs no answer.
                if matches!(change, Change::Deleted(_)) || status_of(set).observed_generation != set.metadata.generation {
                    heard.add(change, at + timings.replicaset_follows_spec.draw(&mut rng));
                }
            }
            change = members.next_timed() => {
                let Some((at, Change::Applied(pod) | Change::Deleted(pod))) = change else { return };
                if let Some(owner) = pods::controller_of(&pod.metadata, "ReplicaSet") {
                    let key = (pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
                    queue.add(key, at + timings.replicaset_follows_pod.draw(&mut rng));
                }
            }
            change = heard.next() => match change {
                Change::Applied(set) => {
                    let key = pods::key(&set.metadata);
                    // At once, not by the queue: the next change may be heard in this same moment.
                    if let Some(again) = reconcile(&store, &set, &mut rng) {
                        queue.add(key.clone(), Instant::now() + again);
                    }
                    known.insert(key, set);
                }
                Change::Deleted(set) => drop(known.remove(&pods::key(&set.metadata))),
            },
            key = queue.next() => {
                if let Some(set) = known.get(&key)
                    && let Some(again) = reconcile(&store, set, &mut rng)
                {
                    queue.add(key, Instant::now() + again);
                }
            }
        }
    }
}

fn status_of(set: &ReplicaSet) -> ReplicaSetStatus {
    set.status.clone().unwrap_or_default()
}

fn count<'a>(pods: impl Iterator<Item = &'a Pod>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

/// Brings pods and status in line; says when to look again if a pod only waits for minReadySeconds.
fn reconcile(store: &Store, set: &ReplicaSet, rng: &mut fastrand::Rng) -> Option<Duration> {
    let (namespace, name) = pods::key(&set.metadata);
    let (namespace, name) = (namespace.as_str(), name.as_str());
    let spec = set.spec.clone().unwrap_or_default();
    let mut members: Vec<Pod> = store.list();
    members.retain(|pod| {
        pods::active(pod)
            && pods::controller_of(&pod.metadata, "ReplicaSet")
                .is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
    });

    let wanted = spec.replicas.unwrap_or(1);
    let missing = wanted - count(members.iter());
    let template = spec.template.unwrap_or_default();
    for _ in 0..missing {
        let owner = pods::owner::<ReplicaSet>(&set.metadata);
        let pod_name = format!("{name}-{}", names::suffix(rng));
        let pod = pods::from_template(&template, namespace, pod_name.clone(), Some(owner));
        match store.create(pod) {
            Ok(_) => tell(
                store,
                set,
                "SuccessfulCreate",
                &format!("Created pod: {pod_name}"),
            ),
            // A name that is taken is one pod less; the next pod event brings us back here.
            Err(error) => tracing::warn!(%error, "replicaset controller"),
        }
    }
    if missing < 0 {
        let mut victims: Vec<&Pod> = members.iter().collect();
        victims.sort_by_key(|pod| rank(pod));
        for pod in victims.into_iter().take(missing.unsigned_abs() as usize) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match begin_deletion(store, namespace, name, None) {
                Ok(_) => tell(store, set, "SuccessfulDelete", &format!("Deleted pod: {name}")),
                Err(error) => tracing::debug!(%error, "replicaset controller: the pod went by itself"),
            }
        }
        members.retain(|pod| {
            store
                .get::<Pod>(namespace, &pods::key(&pod.metadata).1)
                .is_some_and(|p| pods::active(&p))
        });
    }

    let now = Timestamp::now();
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let times: Vec<Timestamp> = members
        .iter()
        .filter_map(|pod| pods::available_at(pod, min_ready_s))
        .collect();
    let (available, waiting): (Vec<Timestamp>, Vec<Timestamp>) = times.into_iter().partition(|at| *at <= now);
    let observed = set.metadata.generation;
    let status = |set: &ReplicaSet| ReplicaSetStatus {
        replicas: count(members.iter()),
        fully_labeled_replicas: Some(count(members.iter())),
        ready_replicas: Some(count(members.iter().filter(|pod| pods::ready(pod)))),
        available_replicas: i32::try_from(available.len()).ok(),
        observed_generation: observed,
        ..status_of(set)
    };
    let written = store.update::<ReplicaSet>(namespace, name, |set| set.status = Some(status(set)));
    if let Err(error) = written {
        tracing::debug!(%error, "replicaset controller: the set went by itself");
    }
    let next = waiting.into_iter().min()?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + Duration::from_millis(1))
}

/// controller_utils.go, RealPodControl.
fn tell(store: &Store, set: &ReplicaSet, reason: &'static str, message: &str) {
    let source = Source {
        component: "replicaset-controller",
        host: None,
    };
    record(store, &reference(set), source, Said::normal(reason, message));
}

/// Who is deleted first (pkg/controller ActivePodsWithRanks): without a node, pending, not ready, then the one that
/// became ready last, then the youngest. The deletion cost annotation and the spread over nodes are left out.
fn rank(
    pod: &Pod,
) -> (
    bool,
    bool,
    bool,
    std::cmp::Reverse<Timestamp>,
    std::cmp::Reverse<Timestamp>,
) {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let since = pods::ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref());
    let created = pod.metadata.creation_timestamp.as_ref();
    let or_never = |time: Option<Timestamp>| std::cmp::Reverse(time.unwrap_or(Timestamp::UNIX_EPOCH));
    (
        has_node,
        pods::phase(pod) == "Running",
        pods::ready(pod),
        or_never(since.map(|time| time.0)),
        or_never(created.map(|time| time.0)),
    )
}
