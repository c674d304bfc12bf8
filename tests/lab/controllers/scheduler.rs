//! The scheduler: gives each new pod a node that takes it, in turn.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::Settings;
use super::pods::{self, Key};
use super::queue::Queue;
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Change, Store, StoreError};

const SOURCE: Source<'static> = Source {
    component: "default-scheduler",
    host: None,
};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let mut rng = settings.rng("scheduler");
    let mut turn = 0;
    let mut created = store.watch::<Pod>();
    let mut nodes = store.watch::<Node>();
    let mut queue = Queue::default();
    // No node took them; a change of a node or a pod's end gives them another try.
    let mut unschedulable: BTreeSet<Key> = BTreeSet::new();
    loop {
        let mut retry = false;
        tokio::select! {
            biased;
            change = created.next_timed() => {
                let Some((at, change)) = change else { return };
                match change {
                    Change::Applied(pod) if without_node(&pod) => {
                        let key = pods::key(&pod.metadata);
                        if !unschedulable.contains(&key) {
                            queue.add(key, at + settings.timings.scheduler_follows_pod.draw(&mut rng));
                        }
                    }
                    Change::Deleted(_) => retry = true,
                    Change::Applied(pod) => retry = pods::terminal(&pod),
                }
            }
            change = nodes.next() => {
                if change.is_none() { return }
                retry = true;
            }
            key = queue.next() => {
                match schedule(&store, &settings.nodes, &key, &mut turn) {
                    Ok(true) => {}
                    Ok(false) => drop(unschedulable.insert(key)),
                    Err(error) => tracing::debug!(%error, "scheduler: the pod went before it was scheduled"),
                }
            }
        }
        if retry {
            for key in std::mem::take(&mut unschedulable) {
                queue.add(
                    key,
                    Instant::now() + settings.timings.scheduler_follows_pod.draw(&mut rng),
                );
            }
        }
    }
}

fn without_node(pod: &Pod) -> bool {
    !pods::terminating(pod) && pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())
}

/// Whether the pod has a node now (or needs none any more).
fn schedule(store: &Store, settings: &[String], key: &Key, turn: &mut usize) -> Result<bool, StoreError> {
    let (namespace, name) = (key.0.as_str(), key.1.as_str());
    let Some(pod) = store.get::<Pod>(namespace, name).filter(without_node) else {
        return Ok(true);
    };
    let nodes = fitting(store, settings, &pod);
    let Some(node) = nodes.get(*turn % nodes.len().max(1)) else {
        let said = "0/1 nodes are available: 1 node(s) were unschedulable or full.";
        record(
            store,
            &reference(&pod),
            SOURCE,
            Said::warning("FailedScheduling", said),
        );
        store.update::<Pod>(namespace, name, |pod| {
            scheduled(pod, Some(("Unschedulable", said)));
        })?;
        return Ok(false);
    };
    *turn += 1;
    store.update::<Pod>(namespace, name, |pod| {
        if without_node(pod) {
            pod.spec.get_or_insert_default().node_name = Some(node.clone());
            scheduled(pod, None);
        }
    })?;
    let said = format!("Successfully assigned {namespace}/{name} to {node}");
    record(store, &reference(&pod), SOURCE, Said::normal("Scheduled", &said));
    Ok(true)
}

/// Whether a required node affinity lets the pod there: labels, In and NotIn, one term.
fn allows(pod: &Pod, node: &Node) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required
        .into_iter()
        .flat_map(|required| &required.node_selector_terms);
    let mut wanted = terms.flat_map(|term| term.match_expressions.iter().flatten());
    wanted.all(|one| {
        let labels = node.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get(&one.key));
        let among = label.is_some_and(|label| one.values.iter().flatten().any(|value| value == label));
        among == (one.operator == "In")
    })
}

/// Nodes of the settings that are not cordoned, have room and are allowed by the pod; all of the settings when there are no
/// Node objects.
fn fitting(store: &Store, settings: &[String], pod: &Pod) -> Vec<String> {
    let nodes = store.list::<Node>();
    if nodes.is_empty() {
        return settings.to_vec();
    }
    let taken = store.list::<Pod>();
    let on = |node: &str| {
        let here = taken.iter().filter(|pod| {
            !pods::terminal(pod) && pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)
        });
        here.count()
    };
    let fits = |node: &Node| {
        let spec = node.spec.clone().unwrap_or_default();
        let room = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref());
        let room = room.and_then(|all| all.get("pods")?.0.parse::<usize>().ok());
        let name = node.metadata.name.as_deref().unwrap_or_default();
        settings.iter().any(|n| n == name)
            && spec.unschedulable != Some(true)
            && allows(pod, node)
            && room.is_none_or(|room| on(name) < room)
    };
    nodes
        .into_iter()
        .filter(|node| fits(node))
        .filter_map(|node| node.metadata.name)
        .collect()
}

/// The condition PodScheduled; `why` not.
fn scheduled(pod: &mut Pod, why: Option<(&str, &str)>) {
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".into(),
        status: if why.is_none() { "True" } else { "False" }.into(),
        reason: why.map(|(reason, _)| reason.to_owned()),
        message: why.map(|(_, message)| message.to_owned()),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    });
}
