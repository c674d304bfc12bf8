//! The StatefulSet controller with OrderedReady: one pod after the other, each with a name that it keeps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use tokio::time::{Duration, Instant};

use super::pods::{self, CONTROLLER_REVISION_HASH, Key};
use super::queue::Queue;
use super::{Settings, names};
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Change, Store, StoreError, begin_deletion};

const SOURCE: Source<'static> = Source {
    component: "statefulset-controller",
    host: None,
};

/// Templates by revision: what ControllerRevision objects keep in a real cluster.
type Revisions = BTreeMap<String, PodTemplateSpec>;

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let timings = settings.timings.clone();
    let mut rng = settings.rng("statefulset");
    let mut sets = store.watch::<StatefulSet>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    let mut revisions: BTreeMap<Key, Revisions> = BTreeMap::new();
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
                if let Some(owner) = pods::controller_of(&pod.metadata, "StatefulSet") {
                    let key = (pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
                    queue.add(key, at + timings.replicaset_follows_pod.draw(&mut rng));
                }
            }
            key = queue.next() => {
                let Some(set) = store.get::<StatefulSet>(&key.0, &key.1) else { continue };
                match reconcile(&store, &set, revisions.entry(key.clone()).or_default()) {
                    Ok(Some(again)) => queue.add(key, Instant::now() + again),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "statefulset controller: an object went by itself"),
                }
            }
        }
    }
}

/// `web-2` of StatefulSet `web` is 2 (stateful_set_utils.go, getParentNameAndOrdinal).
fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    name.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn revision(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(CONTROLLER_REVISION_HASH)
}

/// One round of stateful_set_control.go, updateStatefulSet, and then the status. Says when to look again.
fn reconcile(
    store: &Store,
    set: &StatefulSet,
    revisions: &mut Revisions,
) -> Result<Option<Duration>, StoreError> {
    let (_, name) = pods::key(&set.metadata);
    let spec = set.spec.clone().unwrap_or_default();
    let update = format!("{name}-{}", names::template_hash(&spec.template));
    revisions.insert(update.clone(), spec.template.clone());
    let status = set.status.clone().unwrap_or_default();
    let current = status.current_revision.unwrap_or_else(|| update.clone());
    let wait = next_step(store, set, &spec, (&current, &update), revisions)?;
    write_status(store, set, &spec, &current, &update)?;
    Ok(wait)
}

fn next_step(
    store: &Store,
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    (current, update): (&str, &str),
    revisions: &Revisions,
) -> Result<Option<Duration>, StoreError> {
    let replicas = spec.replicas.unwrap_or(1);
    let rolling = spec
        .update_strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    let partition = rolling.and_then(|r| r.partition).unwrap_or(0);
    let members = members(store, set);
    for ordinal in 0..replicas {
        let Some(pod) = members.get(&ordinal) else {
            // getUpdatedPod: below the partition a new pod is of the old revision too.
            let of = if ordinal < partition { current } else { update };
            let template = revisions.get(of).unwrap_or(&spec.template);
            create(store, set, spec, template, of, ordinal)?;
            return Ok(None);
        };
        if pods::terminal(pod) && !pods::terminating(pod) {
            delete(store, set, pod)?;
            return Ok(None);
        }
        match healthy(pod, spec) {
            Health::Yes => {}
            Health::In(wait) => return Ok(Some(wait)),
            Health::No => return Ok(None),
        }
    }
    if let Some((_, pod)) = members.range(replicas..).next_back() {
        if !pods::terminating(pod) {
            delete(store, set, pod)?;
        }
        return Ok(None);
    }
    for (_, pod) in members.range(partition..replicas).rev() {
        if revision(pod).map(String::as_str) != Some(update) {
            if !pods::terminating(pod) {
                delete(store, set, pod)?;
            }
            return Ok(None);
        }
    }
    Ok(None)
}

enum Health {
    Yes,
    /// Ready, but not yet for minReadySeconds.
    In(Duration),
    No,
}

fn healthy(pod: &Pod, spec: &StatefulSetSpec) -> Health {
    if pods::terminating(pod) || pods::phase(pod) != "Running" {
        return Health::No;
    }
    let now = Timestamp::now();
    match pods::available_at(pod, spec.min_ready_seconds.unwrap_or(0)) {
        None => Health::No,
        Some(at) if at <= now => Health::Yes,
        Some(at) => {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            Health::In(wait + Duration::from_millis(1))
        }
    }
}

fn members(store: &Store, set: &StatefulSet) -> BTreeMap<i32, Pod> {
    let (_, name) = pods::key(&set.metadata);
    let own = store.list::<Pod>().into_iter().filter(|pod| {
        pods::controller_of(&pod.metadata, "StatefulSet")
            .is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
    });
    own.filter_map(|pod| Some((ordinal(&name, &pod)?, pod))).collect()
}

fn create(
    store: &Store,
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    revision: &str,
    ordinal: i32,
) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&set.metadata);
    let pod_name = format!("{name}-{ordinal}");
    let owner = pods::owner::<StatefulSet>(&set.metadata);
    let mut pod = pods::from_template(template, &namespace, pod_name.clone(), Some(owner));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(CONTROLLER_REVISION_HASH.to_owned(), revision.to_owned());
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), pod_name.clone());
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(pod_name.clone());
    pod_spec.subdomain.clone_from(&spec.service_name);
    store.create(pod)?;
    let said = format!("create Pod {pod_name} in StatefulSet {name} successful");
    record(
        store,
        &reference(set),
        SOURCE,
        Said::normal("SuccessfulCreate", &said),
    );
    Ok(())
}

fn delete(store: &Store, set: &StatefulSet, pod: &Pod) -> Result<(), StoreError> {
    let (namespace, pod_name) = pods::key(&pod.metadata);
    begin_deletion(store, &namespace, &pod_name, None)?;
    let name = pods::key(&set.metadata).1;
    let said = format!("delete Pod {pod_name} in StatefulSet {name} successful");
    record(
        store,
        &reference(set),
        SOURCE,
        Said::normal("SuccessfulDelete", &said),
    );
    Ok(())
}

fn write_status(
    store: &Store,
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    current: &str,
    update: &str,
) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&set.metadata);
    let members = members(store, set);
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        i32::try_from(members.values().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let active = |pod: &Pod| !pods::terminating(pod);
    let of = |pod: &Pod, hash: &str| active(pod) && revision(pod).map(String::as_str) == Some(hash);
    let updated = count(&|pod| of(pod, update));
    let ready = count(&|pod| active(pod) && pods::ready(pod));
    let replicas = spec.replicas.unwrap_or(1);
    // completeRollingUpdate: only then is the new revision the current one.
    let complete = updated == replicas && ready == replicas && count(&|_| true) == replicas;
    let current = if complete { update } else { current };
    let status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: Some(ready),
        available_replicas: Some(count(&|pod| matches!(healthy(pod, spec), Health::Yes))),
        current_replicas: Some(count(&|pod| of(pod, current))),
        updated_replicas: Some(updated),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        ..StatefulSetStatus::default()
    };
    let written = store.update(&namespace, &name, |set: &mut StatefulSet| {
        set.status = Some(status);
    });
    written.map(drop)
}
