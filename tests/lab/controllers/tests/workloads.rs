//! StatefulSets, DaemonSets, Jobs, disruptions and nodes.

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Node};

use super::*;
use crate::controllers::pods::CONTROLLER_REVISION_HASH;

fn template() -> k8s_openapi::api::core::v1::PodTemplateSpec {
    pod_template("server", "lab/server:1", 8080)
}

fn register(store: &Store, name: &str) {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    store.create(node).unwrap();
}

fn label(pod: &Pod, key: &str) -> String {
    pod.metadata.labels.as_ref().unwrap()[key].clone()
}

fn condition(pod: &Pod, type_: &str) -> Option<(String, String)> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    let found = all.iter().find(|c| c.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

#[tokio::test]
async fn a_stateful_set_starts_in_order_and_rolls_from_the_last_pod_to_its_partition() {
    for seed in 0..4 {
        let cluster = cluster(seed);
        let store = &cluster.store;
        let mut observed = Observed::new(store);
        store
            .create(stateful_set("shop", "db", 3, 1, 0, template()))
            .unwrap();
        let in_order = |o: &Observed| {
            let waiting = o.pods.values().filter(|pod| !pods::ready(pod)).count();
            assert!(waiting <= 1, "seed {seed}: {waiting} pods are not ready at once");
        };
        observed.until(in_order, |o| o.available() == 3).await;
        assert!(observed.pods.keys().eq(["db-0", "db-1", "db-2"]));
        let old = label(&observed.pods["db-0"], CONTROLLER_REVISION_HASH);
        let uids: Vec<_> = observed
            .pods
            .values()
            .map(|pod| pod.metadata.uid.clone())
            .collect();

        annotate_template::<StatefulSet>(store, "shop", "db", "version", "2").unwrap();
        let rolled = |pod: &Pod| label(pod, CONTROLLER_REVISION_HASH) != old;
        let from_the_last = |o: &Observed| {
            in_order(o);
            let one = o.pods.get("db-1").is_some_and(rolled);
            assert!(!one || o.pods.get("db-2").is_some_and(rolled), "db-1 before db-2");
        };
        observed
            .until(from_the_last, |o| {
                o.available() == 3 && o.pods.values().filter(|pod| rolled(pod)).count() == 2
            })
            .await;
        let now: Vec<_> = observed
            .pods
            .values()
            .map(|pod| pod.metadata.uid.clone())
            .collect();
        assert_eq!(uids[0], now[0], "below the partition nothing changes");
        assert_ne!(uids[1], now[1]);
        assert_ne!(uids[2], now[2]);
        let events = store.list::<Event>();
        let deleted = events
            .iter()
            .filter(|e| e.reason.as_deref() == Some("SuccessfulDelete"));
        assert_eq!(deleted.count(), 2);
    }
}

#[tokio::test]
async fn a_stateful_set_shrinks_from_its_last_pod() {
    let cluster = cluster(5);
    let store = &cluster.store;
    let mut observed = Observed::new(store);
    store
        .create(stateful_set("shop", "db", 3, 0, 0, template()))
        .unwrap();
    observed.until(|_| {}, |o| o.available() == 3).await;
    store
        .update("shop", "db", |set: &mut StatefulSet| {
            set.spec.as_mut().unwrap().replicas = Some(1);
        })
        .unwrap();
    let check = |o: &Observed| {
        assert!(
            o.pods.len() != 2 || !o.pods.contains_key("db-2"),
            "{:?}",
            o.pods.keys()
        );
    };
    observed.until(check, |o| o.pods.len() == 1).await;
    assert!(observed.pods.contains_key("db-0"));
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_each_node_and_replaces_one_at_a_time() {
    for seed in 0..4 {
        let cluster = cluster(seed);
        let store = &cluster.store;
        register(store, "n1");
        register(store, "n2");
        let mut observed = Observed::new(store);
        store.create(daemon_set("shop", "agent", template())).unwrap();
        observed.until(|_| {}, |o| o.available() == 2).await;
        let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        let nodes: std::collections::BTreeSet<_> = observed.pods.values().map(node).collect();
        assert_eq!(nodes.len(), 2);
        let old = label(observed.pods.values().next().unwrap(), CONTROLLER_REVISION_HASH);
        annotate_template::<DaemonSet>(store, "shop", "agent", "version", "2").unwrap();
        let check = |o: &Observed| {
            assert!(o.available() >= 1, "seed {seed}: both nodes are without a pod");
            let mut on: Vec<_> = o.pods.values().map(node).collect();
            on.sort();
            on.dedup();
            assert_eq!(on.len(), o.pods.len(), "seed {seed}: two pods on one node");
        };
        let rolled = |pod: &&Pod| label(pod, CONTROLLER_REVISION_HASH) != old;
        observed
            .until(check, |o| {
                o.available() == 2 && o.pods.values().filter(rolled).count() == 2
            })
            .await;
    }
}

#[tokio::test]
async fn a_job_makes_a_new_pod_for_one_that_failed_and_none_after_it_succeeded() {
    let cluster = cluster(1);
    let store = &cluster.store;
    let mut observed = Observed::new(store);
    store.create(job("shop", "batch", 1, template())).unwrap();
    observed.until(|_| {}, |o| o.available() == 1).await;
    let end = |name: &str, phase: &str| {
        let ended = store.update("shop", name, |pod: &mut Pod| {
            pod.status.as_mut().unwrap().phase = Some(phase.into());
        });
        ended.unwrap();
    };
    let first = observed.pods.keys().next().unwrap().clone();
    end(&first, "Failed");
    observed
        .until(|_| {}, |o| o.pods.len() == 2 && o.available() == 1)
        .await;
    let second = observed.pods.keys().find(|name| **name != first).unwrap().clone();
    end(&second, "Succeeded");
    let mut jobs = store.watch::<Job>();
    let complete = async {
        while let Some(Change::Applied(job)) = jobs.next().await {
            if job.status.unwrap_or_default().completion_time.is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), complete)
        .await
        .unwrap();
    assert_eq!(store.list::<Pod>().len(), 2);
}

#[tokio::test]
async fn a_drained_node_gets_no_pods_until_it_is_uncordoned() {
    let cluster = cluster(3);
    let store = &cluster.store;
    register(store, "n1");
    let mut observed = Observed::new(store);
    store.create(web(2, "1", "0")).unwrap();
    observed.until(|_| {}, |o| o.available() == 2).await;
    let old: Vec<String> = observed.pods.keys().cloned().collect();
    drain(store, "n1", |_| false).unwrap();
    assert_eq!(
        store.get::<Node>("", "n1").unwrap().spec.unwrap().unschedulable,
        Some(true)
    );
    let waits = |o: &Observed| {
        let unschedulable =
            |pod: &&Pod| condition(pod, "PodScheduled") == Some(("False".into(), "Unschedulable".into()));
        o.pods.values().filter(unschedulable).count() == 2 && o.pods.len() == 2
    };
    let check = |o: &Observed| {
        for name in &old {
            let Some(pod) = o.pods.get(name) else { continue };
            if pods::terminating(pod) {
                let why = condition(pod, "DisruptionTarget");
                assert_eq!(why, Some(("True".into(), "EvictionByEvictionAPI".into())));
            }
        }
        assert!(
            o.pods
                .iter()
                .all(|(name, pod)| old.contains(name) || !pods::ready(pod))
        );
    };
    observed.until(check, waits).await;
    set_schedulable(store, "n1", true).unwrap();
    observed.until(|_| {}, |o| o.available() == 2).await;
}

#[tokio::test]
async fn a_full_node_leaves_pods_pending_until_one_goes() {
    let cluster = cluster(4);
    let store = &cluster.store;
    register(store, "n1");
    store
        .update("", "n1", |node: &mut Node| {
            let room = k8s_openapi::apimachinery::pkg::api::resource::Quantity("2".into());
            node.status.get_or_insert_default().allocatable = Some([("pods".to_owned(), room)].into());
        })
        .unwrap();
    let mut observed = Observed::new(store);
    store.create(web(3, "1", "0")).unwrap();
    let full = |o: &Observed| o.available() == 2 && o.pods.len() == 3;
    observed.until(|o| assert!(o.available() <= 2), full).await;
    scale(store, "shop", "web", 2).unwrap();
    // The one without a node goes first.
    observed
        .until(|_| {}, |o| o.available() == 2 && o.pods.len() == 2)
        .await;
}

#[tokio::test]
async fn a_preempted_pod_says_so_and_is_replaced() {
    let cluster = cluster(6);
    let store = &cluster.store;
    let mut observed = Observed::new(store);
    store.create(web(2, "1", "0")).unwrap();
    observed.until(|_| {}, |o| o.available() == 2).await;
    let victim = observed.pods.keys().next().unwrap().clone();
    let deleted = preempt(store, "shop", &victim).unwrap();
    assert_eq!(
        condition(&deleted, "DisruptionTarget"),
        Some(("True".into(), "PreemptionByScheduler".into()))
    );
    observed
        .until(|_| {}, |o| o.available() == 2 && !o.pods.contains_key(&victim))
        .await;
    assert!(
        store
            .list::<Event>()
            .iter()
            .any(|e| e.reason.as_deref() == Some("Preempted"))
    );
}

#[tokio::test]
async fn a_switched_selector_puts_the_other_workloads_pods_behind_the_service() {
    let cluster = cluster(8);
    let store = &cluster.store;
    store.create(web(2, "1", "0")).unwrap();
    store.create(deployment("shop", "green", 1, template())).unwrap();
    let ip = "10.96.0.10".parse().unwrap();
    store
        .create(service(
            "shop",
            "web",
            ip,
            80,
            IntOrString::String("http".into()),
            None,
        ))
        .unwrap();
    let mut slices = store.watch::<EndpointSlice>();
    let mut names_until = async |count: usize, of: &str| {
        let wait = async {
            loop {
                let Some(Change::Applied(slice)) = slices.next().await else {
                    continue;
                };
                let names: Vec<String> = slice
                    .endpoints
                    .into_iter()
                    .filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
                    .filter_map(|e| e.target_ref?.name)
                    .collect();
                if names.len() == count && names.iter().all(|name| name.starts_with(of)) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
    };
    names_until(2, "web-").await;
    switch_selector(store, "shop", "web", "green").unwrap();
    names_until(1, "green-").await;
}

#[tokio::test]
async fn a_rollout_tells_what_it_scales() {
    let cluster = cluster(9);
    let store = &cluster.store;
    store.create(web(2, "1", "0")).unwrap();
    complete(store).await;
    annotate_template::<Deployment>(store, "shop", "web", "version", "2").unwrap();
    complete(store).await;
    let messages: Vec<String> = store
        .list::<Event>()
        .into_iter()
        .filter(|e| e.reason.as_deref() == Some("ScalingReplicaSet"))
        .filter_map(|e| e.message)
        .collect();
    let one = |way: &str, from: u32, to: u32| {
        let end = format!("from {from} to {to}");
        messages
            .iter()
            .filter(|m| m.contains(way) && m.ends_with(&end))
            .count()
    };
    assert_eq!(
        (one("up", 0, 2), one("up", 0, 1), one("up", 1, 2)),
        (1, 1, 1),
        "{messages:?}"
    );
    assert_eq!((one("down", 2, 1), one("down", 1, 0)), (1, 1), "{messages:?}");
}
