//! What an operator does to a running workload: the actions of a scenario.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Pod, PodCondition, PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::pods;
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Object, Store, StoreError, begin_deletion};

/// A kind that makes pods from a template.
pub trait Templated: Object {
    /// Its template; made when it is absent.
    fn template_mut(&mut self) -> &mut PodTemplateSpec;
}

impl Templated for Deployment {
    fn template_mut(&mut self) -> &mut PodTemplateSpec {
        &mut self.spec.get_or_insert_default().template
    }
}

impl Templated for StatefulSet {
    fn template_mut(&mut self) -> &mut PodTemplateSpec {
        &mut self.spec.get_or_insert_default().template
    }
}

impl Templated for DaemonSet {
    fn template_mut(&mut self) -> &mut PodTemplateSpec {
        &mut self.spec.get_or_insert_default().template
    }
}

/// Changes the pod template, which starts a rollout (`kubectl rollout restart` sets
/// `kubectl.kubernetes.io/restartedAt`). Setting the old value again is a rollback.
pub fn annotate_template<K: Templated>(
    store: &Store,
    namespace: &str,
    name: &str,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    let changed = store.update(namespace, name, |object: &mut K| {
        let metadata = object.template_mut().metadata.get_or_insert_default();
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
    });
    changed.map(drop)
}

/// `kubectl scale`
pub fn scale(store: &Store, namespace: &str, name: &str, replicas: i32) -> Result<Deployment, StoreError> {
    store.update(namespace, name, |deployment: &mut Deployment| {
        deployment.spec.get_or_insert_default().replicas = Some(replicas);
    })
}

/// `kubectl delete pod`; with `grace_s` 0 it is a force delete: the object is gone at once, whatever still runs.
pub fn delete_pod(
    store: &Store,
    namespace: &str,
    name: &str,
    grace_s: Option<i64>,
) -> Result<Pod, StoreError> {
    if grace_s == Some(0) {
        return store.remove(namespace, name);
    }
    begin_deletion(store, namespace, name, grace_s)
}

/// `kubectl delete deployment`, and what the garbage collector makes of it (pkg/controller/garbagecollector, background
/// propagation): the object is gone at once, then its ReplicaSets, then their pods are deleted, each with its grace.
pub fn delete_deployment(store: &Store, namespace: &str, name: &str) -> Result<(), StoreError> {
    let gone = store.remove::<Deployment>(namespace, name)?;
    let owned = |meta: &ObjectMeta, kind: &str, by: &ObjectMeta| {
        pods::controller_of(meta, kind).is_some_and(|owner| Some(&owner.uid) == by.uid.as_ref())
    };
    let mut sets = store.list::<ReplicaSet>();
    sets.retain(|set| owned(&set.metadata, "Deployment", &gone.metadata));
    for set in &sets {
        store.remove::<ReplicaSet>(namespace, &pods::key(&set.metadata).1)?;
    }
    for pod in store.list::<Pod>() {
        let ends = !pods::terminating(&pod);
        if ends
            && sets
                .iter()
                .any(|set| owned(&pod.metadata, "ReplicaSet", &set.metadata))
        {
            begin_deletion(store, namespace, &pods::key(&pod.metadata).1, None)?;
        }
    }
    Ok(())
}

/// Marks a pod as the target of a disruption (KEP-3329).
fn disrupt(
    store: &Store,
    namespace: &str,
    name: &str,
    reason: &str,
    message: &str,
) -> Result<Pod, StoreError> {
    store.update(namespace, name, |pod: &mut Pod| {
        let conditions = pod
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(Timestamp::now())),
            ..PodCondition::default()
        });
    })
}

/// The Eviction API (pkg/registry/core/pod/storage/eviction.go, addConditionAndDeletePod): first the condition, then the
/// deletion with the pod's own grace.
pub fn evict(store: &Store, namespace: &str, name: &str) -> Result<Pod, StoreError> {
    disrupt(
        store,
        namespace,
        name,
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )?;
    begin_deletion(store, namespace, name, None)
}

/// The scheduler makes room (pkg/scheduler/framework/preemption/executor.go, PreemptPod): the condition, the deletion with
/// the victim's own grace, an event.
pub fn preempt(store: &Store, namespace: &str, name: &str) -> Result<Pod, StoreError> {
    let message = "default-scheduler: preempting to accommodate a higher priority pod";
    let victim = disrupt(store, namespace, name, "PreemptionByScheduler", message)?;
    let deleted = begin_deletion(store, namespace, name, None)?;
    let node = victim.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let said = format!(
        "Preempted by a pod of higher priority on node {}",
        node.unwrap_or_default()
    );
    let source = Source {
        component: "default-scheduler",
        host: None,
    };
    record(
        store,
        &reference(&victim),
        source,
        Said::normal("Preempted", &said),
    );
    Ok(deleted)
}

/// `kubectl cordon` and `uncordon`. The node lifecycle controller sets the taint (taint nodes by condition, GA in 1.17).
pub fn set_schedulable(store: &Store, node: &str, schedulable: bool) -> Result<(), StoreError> {
    const TAINT: &str = "node.kubernetes.io/unschedulable";
    let changed = store.update("", node, |node: &mut Node| {
        let spec: &mut NodeSpec = node.spec.get_or_insert_default();
        spec.unschedulable = (!schedulable).then_some(true);
        let taints = spec.taints.get_or_insert_default();
        taints.retain(|taint| taint.key != TAINT);
        if !schedulable {
            taints.push(k8s_openapi::api::core::v1::Taint {
                key: TAINT.to_owned(),
                effect: "NoSchedule".to_owned(),
                time_added: Some(Time(Timestamp::now())),
                ..k8s_openapi::api::core::v1::Taint::default()
            });
        }
        if taints.is_empty() {
            spec.taints = None;
        }
    });
    changed.map(drop)
}

/// `kubectl drain --ignore-daemonsets --force`: cordons the node and evicts its pods, all at once. Those that `keeps`
/// names stay, as mirror pods do.
pub fn drain(store: &Store, node: &str, keeps: impl Fn(&Pod) -> bool) -> Result<(), StoreError> {
    set_schedulable(store, node, false)?;
    let stays = |pod: &Pod| {
        pods::controller_of(&pod.metadata, "DaemonSet").is_some() || pods::terminating(pod) || keeps(pod)
    };
    for pod in store.list::<Pod>() {
        let here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        if here && !stays(&pod) {
            let (namespace, name) = pods::key(&pod.metadata);
            evict(store, &namespace, &name)?;
        }
    }
    Ok(())
}

/// Blue/green: the service selects the pods `app=<workload>` from now on.
pub fn switch_selector(
    store: &Store,
    namespace: &str,
    service: &str,
    workload: &str,
) -> Result<(), StoreError> {
    let changed = store.update(namespace, service, |service: &mut Service| {
        service.spec.get_or_insert_default().selector = Some(super::objects::app(workload));
    });
    changed.map(drop)
}

/// The event of a HorizontalPodAutoscaler that scaled (pkg/controller/podautoscaler/horizontal.go).
pub fn told_rescale(store: &Store, namespace: &str, name: &str, replicas: i32) {
    let about = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some("autoscaling/v2".to_owned()),
        kind: Some("HorizontalPodAutoscaler".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..k8s_openapi::api::core::v1::ObjectReference::default()
    };
    let said = format!(
        "New size: {replicas}; reason: cpu resource utilization (percentage of request) above target"
    );
    let source = Source {
        component: "horizontal-pod-autoscaler",
        host: None,
    };
    record(store, &about, source, Said::normal("SuccessfulRescale", &said));
}
