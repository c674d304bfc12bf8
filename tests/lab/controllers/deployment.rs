//! The Deployment controller: one ReplicaSet for each pod template, scaled by the strategy.

mod conditions;
mod events;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::conditions::set_condition;
use super::pods::{self, Key, POD_TEMPLATE_HASH};
use super::queue::Queue;
use super::rolling::{Counts, Limits, new_replicas, old_replicas};
use super::{Settings, names};
use crate::api::{Change, Store, StoreError};

/// Counts a Deployment's templates; on the Deployment and on each ReplicaSet.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let timings = settings.timings.clone();
    let mut rng = settings.rng("deployment");
    let mut deployments = store.watch::<Deployment>();
    let mut sets = store.watch::<ReplicaSet>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    loop {
        tokio::select! {
            biased;
            change = deployments.next_timed() => {
                let Some((at, change)) = change else { return };
                if let Change::Applied(deployment) = change {
                    let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
                    // Our own status update needs no answer.
                    if seen != deployment.metadata.generation {
                        queue.add(pods::key(&deployment.metadata), at + timings.deployment_follows_spec.draw(&mut rng));
                    }
                }
            }
            change = sets.next_timed() => {
                let Some((at, Change::Applied(set) | Change::Deleted(set))) = change else { return };
                if let Some(key) = owner_key(&set.metadata) {
                    queue.add(key, at + timings.deployment_follows_replicaset.draw(&mut rng));
                }
            }
            change = members.next_timed() => {
                let Some((at, change)) = change else { return };
                // Recreate waits for the last old pod to be gone or ended.
                let (Change::Applied(pod) | Change::Deleted(pod)) = &change;
                if (matches!(change, Change::Deleted(_)) || pods::terminal(pod))
                    && let Some(owner) = pods::controller_of(&pod.metadata, "ReplicaSet")
                    && let Some(set) = store.get::<ReplicaSet>(&pods::key(&pod.metadata).0, &owner.name)
                    && let Some(key) = owner_key(&set.metadata)
                {
                    queue.add(key, at + timings.deployment_follows_replicaset.draw(&mut rng));
                }
            }
            key = queue.next() => {
                if let Err(error) = reconcile(&store, &key) {
                    tracing::debug!(%error, "deployment controller: an object went by itself");
                }
            }
        }
    }
}

fn owner_key(meta: &ObjectMeta) -> Option<Key> {
    let owner = pods::controller_of(meta, "Deployment")?;
    Some((meta.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn counts(set: &ReplicaSet) -> Counts {
    let available = set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    Counts {
        wanted: wanted(set),
        available,
    }
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn total(sets: &[ReplicaSet]) -> i32 {
    sets.iter().map(wanted).sum()
}

fn reconcile(store: &Store, key: &Key) -> Result<(), StoreError> {
    let Some(deployment) = store.get::<Deployment>(&key.0, &key.1) else {
        return Ok(());
    };
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut sets: Vec<ReplicaSet> = store.list();
    sets.retain(|set| {
        pods::controller_of(&set.metadata, "Deployment")
            .is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
    });
    sets.sort_by_key(|set| (revision(set), set.metadata.name.clone()));
    let hash = names::template_hash(&spec.template);
    let is_new = |set: &ReplicaSet| {
        set.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(POD_TEMPLATE_HASH))
            == Some(&hash)
    };
    let (mut new, old): (Vec<ReplicaSet>, Vec<ReplicaSet>) = sets.into_iter().partition(is_new);
    let new = new.pop();

    let recreate = spec
        .strategy
        .as_ref()
        .is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
    let changed = if recreate {
        recreate_step(store, &deployment, &spec, &hash, new.as_ref(), &old)
    } else {
        rolling_step(store, &deployment, &spec, &hash, new.as_ref(), &old)
    };
    let written = write_status(store, key, &hash);
    changed.and(written)
}

/// One step of rolloutRolling: first the new ReplicaSet, and only when it is as it should be the old ones. Each change
/// of a ReplicaSet brings us back here.
fn rolling_step(
    store: &Store,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
) -> Result<(), StoreError> {
    let replicas = spec.replicas.unwrap_or(1);
    let limits = Limits::resolve(spec.strategy.as_ref(), replicas);
    let new = match new {
        None => &create_set(
            store,
            deployment,
            spec,
            hash,
            old,
            new_replicas(replicas, limits, 0, total(old)),
        )?,
        Some(set) => {
            let target = new_replicas(replicas, limits, wanted(set), wanted(set) + total(old));
            let newest = adopt_revision(store, deployment, set, old)?;
            if scale_set(store, deployment, &newest, target)? {
                return Ok(());
            }
            set
        }
    };
    let before: Vec<Counts> = old.iter().map(counts).collect();
    let after = old_replicas(replicas, limits, counts(new), &before);
    for (set, target) in old.iter().zip(after) {
        scale_set(store, deployment, set, target)?;
    }
    Ok(())
}

/// rolloutRecreate: the new ReplicaSet comes when no old pod is left that still runs, terminating ones included.
fn recreate_step(
    store: &Store,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
) -> Result<(), StoreError> {
    for set in old {
        scale_set(store, deployment, set, 0)?;
    }
    let old_runs = store.list::<Pod>().iter().any(|pod| {
        let owner = pods::controller_of(&pod.metadata, "ReplicaSet");
        let of_old = owner.is_some_and(|owner| {
            old.iter()
                .any(|set| set.metadata.uid.as_ref() == Some(&owner.uid))
        });
        of_old && !pods::terminal(pod)
    });
    if old_runs {
        return Ok(());
    }
    let replicas = spec.replicas.unwrap_or(1);
    match new {
        None => create_set(store, deployment, spec, hash, old, replicas).map(drop),
        Some(set) => {
            let newest = adopt_revision(store, deployment, set, old)?;
            scale_set(store, deployment, &newest, replicas).map(drop)
        }
    }
}

fn create_set(
    store: &Store,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    old: &[ReplicaSet],
    replicas: i32,
) -> Result<ReplicaSet, StoreError> {
    let (namespace, name) = pods::key(&deployment.metadata);
    let revision = old.iter().map(revision).max().unwrap_or(0) + 1;
    let with_hash = |labels: &mut BTreeMap<String, String>| {
        labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.to_owned());
    };
    let mut template = spec.template.clone();
    with_hash(
        template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default(),
    );
    let mut selector = spec.selector.clone();
    with_hash(selector.match_labels.get_or_insert_default());
    let metadata = ObjectMeta {
        name: Some(format!("{name}-{hash}")),
        namespace: Some(namespace.clone()),
        labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
        annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
        owner_references: Some(vec![pods::owner::<Deployment>(&deployment.metadata)]),
        ..ObjectMeta::default()
    };
    let set_spec = ReplicaSetSpec {
        replicas: Some(replicas),
        min_ready_seconds: spec.min_ready_seconds,
        selector,
        template: Some(template),
    };
    let set = store.create(ReplicaSet {
        metadata,
        spec: Some(set_spec),
        status: None,
    })?;
    write_revision(store, &namespace, &name, revision)?;
    if replicas > 0 {
        let set = pods::key(&set.metadata).1;
        events::scaled(store, deployment, &set, 0, replicas);
    }
    Ok(set)
}

/// A rollback makes an old ReplicaSet the newest revision again.
fn adopt_revision(
    store: &Store,
    deployment: &Deployment,
    new: &ReplicaSet,
    old: &[ReplicaSet],
) -> Result<ReplicaSet, StoreError> {
    let newest = old.iter().map(revision).max().unwrap_or(0);
    if revision(new) > newest {
        return Ok(new.clone());
    }
    let (namespace, name) = pods::key(&deployment.metadata);
    write_revision(store, &namespace, &name, newest + 1)?;
    store.update(&namespace, &pods::key(&new.metadata).1, |set: &mut ReplicaSet| {
        set.metadata
            .annotations
            .get_or_insert_default()
            .insert(REVISION.into(), (newest + 1).to_string());
    })
}

fn write_revision(store: &Store, namespace: &str, name: &str, revision: i64) -> Result<(), StoreError> {
    let written = store.update(namespace, name, |deployment: &mut Deployment| {
        deployment
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(REVISION.into(), revision.to_string());
    });
    written.map(drop)
}

/// True when this changed the number of wanted replicas.
fn scale_set(
    store: &Store,
    deployment: &Deployment,
    set: &ReplicaSet,
    target: i32,
) -> Result<bool, StoreError> {
    let (namespace, name) = pods::key(&set.metadata);
    store.update(&namespace, &name, |set: &mut ReplicaSet| {
        let set_spec = set.spec.get_or_insert_default();
        set_spec.replicas = Some(target);
        set_spec.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    })?;
    let before = wanted(set);
    if before != target {
        events::scaled(store, deployment, &name, before, target);
    }
    Ok(before != target)
}

fn write_status(store: &Store, key: &Key, hash: &str) -> Result<(), StoreError> {
    let sets = store.list::<ReplicaSet>();
    let written = store.update(&key.0, &key.1, |deployment: &mut Deployment| {
        let own = |set: &&ReplicaSet| {
            let owner = pods::controller_of(&set.metadata, "Deployment");
            owner.is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
        };
        let own: Vec<&ReplicaSet> = sets.iter().filter(own).collect();
        let sum =
            |field: fn(&ReplicaSet) -> Option<i32>| own.iter().filter_map(|set| field(set)).sum::<i32>();
        let new = own.iter().find(|set| {
            set.metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(POD_TEMPLATE_HASH))
                .map(String::as_str)
                == Some(hash)
        });
        let replicas = sum(|set| Some(set.status.as_ref()?.replicas));
        let available = sum(|set| set.status.as_ref()?.available_replicas);
        let updated = new
            .and_then(|set| Some(set.status.as_ref()?.replicas))
            .unwrap_or(0);
        let spec = deployment.spec.clone().unwrap_or_default();
        let target = spec.replicas.unwrap_or(1);
        let unavailable = (own.iter().map(|set| wanted(set)).sum::<i32>() - available).max(0);
        let enough = available >= target - Limits::resolve(spec.strategy.as_ref(), target).unavailable;
        let complete = updated == target && replicas == target && available >= target;
        let was = deployment.status.take().unwrap_or_default();
        let mut conditions = was.conditions.clone().unwrap_or_default();
        let reason = if enough {
            "MinimumReplicasAvailable"
        } else {
            "MinimumReplicasUnavailable"
        };
        set_condition(&mut conditions, "Available", enough, reason);
        let reason = if complete {
            "NewReplicaSetAvailable"
        } else {
            "ReplicaSetUpdated"
        };
        set_condition(&mut conditions, "Progressing", true, reason);
        deployment.status = Some(DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: Some(replicas),
            updated_replicas: Some(updated),
            ready_replicas: Some(sum(|set| set.status.as_ref()?.ready_replicas)),
            available_replicas: Some(available),
            unavailable_replicas: Some(unavailable),
            conditions: Some(conditions),
            ..was
        });
    });
    written.map(drop)
}
