//! Tests of the store.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{PodSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::api::Change;

use k8s_openapi::api::core::v1::Pod;

fn pod(name: &str) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some("shop".into()),
        ..ObjectMeta::default()
    };
    let spec = PodSpec {
        node_name: Some("n1".into()),
        ..PodSpec::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        ..Pod::default()
    }
}

fn label(pod: &mut Pod, key: &str, value: &str) {
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(key.into(), value.into());
}

#[test]
fn created_objects_get_identity_and_a_version() {
    let store = Store::new();
    let first = store.create(pod("a")).unwrap();
    let second = store.create(pod("b")).unwrap();
    let uid = first.metadata.uid.unwrap();
    assert_eq!(uid.len(), 36);
    assert_eq!(uid.as_bytes()[14], b'4');
    assert_ne!(Some(uid), second.metadata.uid);
    let version = |text: Option<String>| text.unwrap().parse::<u64>().unwrap();
    assert!(version(second.metadata.resource_version) > version(first.metadata.resource_version));
    assert!(matches!(
        store.create(pod("a")),
        Err(StoreError::AlreadyExists { .. })
    ));
    assert!(matches!(
        store.create(Pod::default()),
        Err(StoreError::NoName { kind: "Pod" })
    ));
    assert!(matches!(
        store.remove::<Service>("shop", "a"),
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_no_event() {
    let store = Store::new();
    let created = store.create(pod("a")).unwrap();
    let mut watch = store.watch::<Pod>();
    let same = store.update::<Pod>("shop", "a", |_| {}).unwrap();
    assert_eq!(same, created);
    store
        .update::<Pod>("shop", "a", |pod| label(pod, "x", "1"))
        .unwrap();
    assert_eq!(watch.next().await, Some(Change::Applied(created)));
    let Some(Change::Applied(changed)) = watch.next().await else {
        panic!("an update")
    };
    assert_eq!(
        changed.metadata.labels,
        Some(BTreeMap::from([("x".into(), "1".into())]))
    );
    let last = store.remove::<Pod>("shop", "a").unwrap();
    assert_eq!(watch.next().await, Some(Change::Deleted(last)));
    drop(store);
    assert_eq!(watch.next().await, None);
}

#[test]
fn only_a_changed_spec_raises_the_generation_of_a_deployment() {
    let store = Store::new();
    let mut deployment = Deployment {
        spec: Some(DeploymentSpec::default()),
        ..Deployment::default()
    };
    deployment.metadata.name = Some("web".into());
    store.create(deployment).unwrap();
    let label = |d: &mut Deployment| {
        d.metadata
            .labels
            .get_or_insert_default()
            .insert("a".into(), "b".into());
    };
    assert_eq!(
        store.update("", "web", label).unwrap().metadata.generation,
        Some(1)
    );
    let scale = |d: &mut Deployment| d.spec.get_or_insert_default().replicas = Some(5);
    assert_eq!(
        store.update("", "web", scale).unwrap().metadata.generation,
        Some(2)
    );
}

#[test]
fn a_second_deletion_may_only_shorten_the_grace() {
    let store = Store::new();
    store.create(pod("a")).unwrap();
    let seconds = |pod: &Pod| pod.metadata.deletion_timestamp.as_ref().unwrap().0.as_second();
    let first = begin_deletion(&store, "shop", "a", None).unwrap();
    assert_eq!(first.metadata.deletion_grace_period_seconds, Some(30));
    let longer = begin_deletion(&store, "shop", "a", Some(60)).unwrap();
    assert_eq!(longer, first);
    let ended = begin_deletion(&store, "shop", "a", Some(0)).unwrap();
    assert_eq!(ended.metadata.deletion_grace_period_seconds, Some(0));
    assert_eq!(seconds(&first) - seconds(&ended), 30);
}

#[test]
fn a_pod_without_a_node_is_deleted_at_once() {
    let store = Store::new();
    let mut unscheduled = pod("a");
    unscheduled.spec = None;
    store.create(unscheduled).unwrap();
    begin_deletion(&store, "shop", "a", None).unwrap();
    assert_eq!(store.get::<Pod>("shop", "a"), None);
}

/// Writers on several threads, a watcher that joins in the middle: it must see a state from which every later
/// version follows in order, up to the last one of each object.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watch_misses_nothing_under_concurrent_updates() {
    const WRITERS: usize = 4;
    const UPDATES: usize = 300;
    // Far fewer versions in the log than are written: the bound is for HTTP clients only.
    let store = Store::with_history(8);
    let mut early = store.watch::<Pod>();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.push(std::thread::spawn(move || {
            let name = format!("p{writer}");
            store.create(pod(&name)).unwrap();
            for step in 1..=UPDATES {
                store
                    .update::<Pod>("shop", &name, |pod| label(pod, "step", &step.to_string()))
                    .unwrap();
            }
            store.remove::<Pod>("shop", &name).unwrap();
        }));
    }
    let mut late = None;
    let mut steps: BTreeMap<String, usize> = BTreeMap::new();
    let mut deleted = 0;
    let mut last_version = 0;
    while deleted < WRITERS {
        match early.next().await.unwrap() {
            Change::Applied(pod) => {
                let step = pod
                    .metadata
                    .labels
                    .unwrap_or_default()
                    .get("step")
                    .map_or(0, |s| s.parse().unwrap());
                if let Some(before) = steps.insert(pod.metadata.name.unwrap(), step) {
                    assert_eq!(step, before + 1, "a version was missed");
                }
                if step == 50 && late.is_none() {
                    late = Some(store.watch::<Pod>());
                }
            }
            Change::Deleted(pod) => {
                assert_eq!(steps[&pod.metadata.name.unwrap()], UPDATES);
                let version = pod.metadata.resource_version.unwrap().parse::<u64>().unwrap();
                assert!(version > last_version);
                last_version = version;
                deleted += 1;
            }
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let (mut late, mut seen) = (late.unwrap(), BTreeMap::new());
    drop(store);
    while let Some(change) = late.next().await {
        if let Change::Applied(pod) = change {
            let step: usize = pod
                .metadata
                .labels
                .unwrap_or_default()
                .get("step")
                .map_or(0, |s| s.parse().unwrap());
            if let Some(before) = seen.insert(pod.metadata.name.unwrap(), step) {
                assert_eq!(step, before + 1, "a version was missed by the late watch");
            }
        }
    }
    assert!(seen.values().all(|last| *last == UPDATES), "{seen:?}");
}

#[test]
fn the_log_is_bounded_and_says_so() {
    let store = Store::with_history(3);
    store.create(pod("a")).unwrap();
    let start = store.version();
    for step in 0..3 {
        store
            .update::<Pod>("shop", "a", |pod| label(pod, "step", &step.to_string()))
            .unwrap();
    }
    let pods = Plural::of::<Pod>();
    assert_eq!(store.since(pods, start).unwrap().1.len(), 3);
    assert_eq!(store.since(Plural::of::<Service>(), start).unwrap().1.len(), 0);
    store
        .update::<Pod>("shop", "a", |pod| label(pod, "step", "last"))
        .unwrap();
    assert_eq!(store.since(pods, start).unwrap_err(), Gone { oldest: start + 1 });
    let newest = store.version();
    store.forget_history();
    assert!(store.since(pods, newest).is_err());
    assert!(store.since(pods, store.version()).is_ok());
    assert!(store.since(pods, store.version() + 1).is_err());
}
