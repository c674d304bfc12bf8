//! The scheduler: gives each new pod a node, round robin.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Settings;
use super::pods;
use super::queue::Queue;
use crate::api::{Change, Store};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let mut rng = settings.rng("scheduler");
    let mut nodes = settings.nodes.iter().cycle();
    let mut created = store.watch::<Pod>();
    let mut queue = Queue::default();
    loop {
        tokio::select! {
            biased;
            change = created.next_timed() => {
                let Some((at, change)) = change else { return };
                if let Change::Applied(pod) = change && without_node(&pod) {
                    queue.add(pods::key(&pod.metadata), at + settings.timings.scheduler_follows_pod.draw(&mut rng));
                }
            }
            (namespace, name) = queue.next() => {
                let Some(node) = nodes.next() else {
                    tracing::warn!(%namespace, %name, "scheduler: no node in the settings, the pod stays Pending");
                    continue;
                };
                let bound = store.update::<Pod>(&namespace, &name, |pod| {
                    if without_node(pod) {
                        bind(pod, node);
                    }
                });
                if let Err(error) = bound {
                    tracing::debug!(%error, "scheduler: the pod went before it was scheduled");
                }
            }
        }
    }
}

fn without_node(pod: &Pod) -> bool {
    !pods::terminating(pod) && pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())
}

fn bind(pod: &mut Pod, node: &str) {
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".into(),
        status: "True".into(),
        last_transition_time: Some(Time(jiff::Timestamp::now())),
        ..PodCondition::default()
    });
}
