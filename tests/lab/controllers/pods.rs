//! What the controllers ask about a pod, and how a pod is made from a template.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// Label that a Deployment's ReplicaSets and pods carry.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The same for the pods of StatefulSets and DaemonSets.
pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Succeeded or Failed: its containers will not run again.
pub fn terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Counts as a replica (pkg/controller IsPodActive).
pub fn active(pod: &Pod) -> bool {
    !terminal(pod) && !terminating(pod)
}

pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == "Ready")
}

pub fn ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// When the pod is (or was) available: Ready for `min_ready_s` seconds. `None` = not Ready.
pub fn available_at(pod: &Pod, min_ready_s: i32) -> Option<Timestamp> {
    let condition = ready_condition(pod).filter(|condition| condition.status == "True")?;
    let since = condition
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    since
        .checked_add(SignedDuration::from_secs(min_ready_s.into()))
        .ok()
}

/// The owner that manages this object, if it is of `kind`.
pub fn controller_of<'a>(meta: &'a ObjectMeta, kind: &str) -> Option<&'a OwnerReference> {
    let owners = meta.owner_references.as_ref()?;
    owners
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == kind)
}

/// An ownerReference to the object with this metadata.
pub fn owner<K: k8s_openapi::Resource>(meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Namespace and name.
pub type Key = (String, String);

pub fn key(meta: &ObjectMeta) -> Key {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// matchLabels only: it is what the lab's workloads use.
pub fn selects(selector: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

pub fn match_labels(selector: &LabelSelector) -> BTreeMap<String, String> {
    selector.match_labels.clone().unwrap_or_default()
}

/// A pod of `template` with the defaults that the API server fills in.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    name: String,
    owner: Option<OwnerReference>,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    let status = PodStatus {
        phase: Some("Pending".into()),
        qos_class: Some(qos_class(&spec).into()),
        ..PodStatus::default()
    };
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: meta.labels,
        annotations: meta.annotations,
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        status: Some(status),
    }
}

/// The pod's QoS class, which names its cgroup (pkg/apis/core/v1/helper/qos ComputePodQOS, for cpu and memory).
fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = !spec.containers.is_empty();
    for container in &spec.containers {
        for resource in ["cpu", "memory"] {
            let given = container.resources.as_ref();
            let limit = given.and_then(|r| r.limits.as_ref()?.get(resource));
            // A limit without a request is also the request.
            let request = given.and_then(|r| r.requests.as_ref()?.get(resource)).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
