//! Who owns a pod for its user, and which revision a ReplicaSet is.

use k8s_openapi::{
    api::apps::v1::ReplicaSet,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::input::{NsName, ReplicaSetState, Workload};

/// Label with the template hash of a Deployment's pods and ReplicaSets.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The same of Argo Rollouts, which names and labels its ReplicaSets as the Deployment controller does
/// (argo-rollouts pkg/apis/rollouts/v1alpha1, DefaultRolloutUniqueLabelKey).
pub(super) const ROLLOUTS_HASH: &str = "rollouts-pod-template-hash";

/// Its annotations (argo-rollouts utils/annotations).
const ROLLOUTS_REVISION: &str = "rollout.argoproj.io/revision";
const ROLLOUTS_DESIRED: &str = "rollout.argoproj.io/desired-replicas";

/// Annotation with a ReplicaSet's place in its Deployment's history.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Annotation with the replicas of its Deployment (pkg/controller/deployment/util, DesiredReplicasAnnotation).
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

pub(super) fn ns_name(meta: &ObjectMeta) -> NsName {
    NsName {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

pub(super) fn label(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.labels.as_ref()?.get(name).filter(|v| !v.is_empty()).cloned()
}

pub(super) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_ref()?
        .iter()
        .find(|o| o.controller == Some(true))
}

/// The workload of a pod, as far as names and labels tell. The Deployment controller names a ReplicaSet
/// `<deployment>-<template hash>` and labels its pods with that hash (pkg/controller/deployment/sync.go,
/// getNewReplicaSet), so a ReplicaSet whose name does not end so stands for itself.
pub fn workload(pod: &ObjectMeta) -> Workload {
    let itself = || Workload {
        kind: "pod".into(),
        name: pod.name.clone().unwrap_or_default(),
    };
    let Some(owner) = controller(pod) else {
        return itself();
    };
    match owner.kind.as_str() {
        // A static pod's mirror: the Node only stands for the manifest file on it.
        "Node" => itself(),
        "ReplicaSet" => {
            let named = |hash: &str| {
                let hash = label(pod, hash)?;
                let name = owner.name.strip_suffix(&hash)?.strip_suffix('-')?;
                (!name.is_empty()).then(|| name.to_owned())
            };
            let deployment = named(POD_TEMPLATE_HASH).map(|name| ("deployment", name));
            let rollout = || named(ROLLOUTS_HASH).map(|name| ("rollout", name));
            let (kind, name) = deployment
                .or_else(rollout)
                .unwrap_or_else(|| ("replicaset", owner.name.clone()));
            Workload {
                kind: kind.to_owned(),
                name,
            }
        }
        kind => Workload {
            kind: kind.to_lowercase(),
            name: owner.name.clone(),
        },
    }
}

/// The API's name of a workload's kind; of kinds that Kubernetes does not have itself no version is known.
pub(super) fn typed(kind: &str) -> (Option<String>, String) {
    let (version, kind) = match kind {
        "deployment" => ("apps/v1", "Deployment"),
        "replicaset" => ("apps/v1", "ReplicaSet"),
        "statefulset" => ("apps/v1", "StatefulSet"),
        "daemonset" => ("apps/v1", "DaemonSet"),
        "job" => ("batch/v1", "Job"),
        "pod" => ("v1", "Pod"),
        other => return (None, other.to_owned()),
    };
    (Some(version.to_owned()), kind.to_owned())
}

/// Translates a ReplicaSet.
pub fn replica_set_state(rs: &ReplicaSet) -> ReplicaSetState {
    let meta = &rs.metadata;
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|a| a.get(name));
    let owner = controller(meta).filter(|o| matches!(o.kind.as_str(), "Deployment" | "Rollout"));
    let rollout = owner.is_some_and(|o| o.kind == "Rollout");
    let of = |deployments, rollouts| if rollout { rollouts } else { deployments };
    ReplicaSetState {
        replica_set: ns_name(meta),
        deployment: owner.map(|o| o.name.clone()),
        kind: rollout.then(|| "rollout".to_owned()),
        template_hash: label(meta, of(POD_TEMPLATE_HASH, ROLLOUTS_HASH)),
        revision: annotation(of(REVISION, ROLLOUTS_REVISION)).and_then(|v| v.parse().ok()),
        // ReplicaSetSpec.replicas defaults to 1 (apps/v1).
        replicas: rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
        desired: annotation(of(DESIRED, ROLLOUTS_DESIRED)).and_then(|v| v.parse().ok()),
        owner_uid: owner.map(|o| o.uid.clone()).filter(|uid| !uid.is_empty()),
        ending: meta.deletion_timestamp.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(owner: Option<(&str, &str)>, hash: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some("p".into()),
            labels: hash.map(|h| [(POD_TEMPLATE_HASH.to_owned(), h.to_owned())].into()),
            owner_references: owner.map(|(kind, name)| {
                vec![OwnerReference {
                    kind: kind.into(),
                    name: name.into(),
                    controller: Some(true),
                    ..OwnerReference::default()
                }]
            }),
            ..ObjectMeta::default()
        }
    }

    fn owner_of(owner: Option<(&str, &str)>, hash: Option<&str>) -> String {
        let w = workload(&pod(owner, hash));
        format!("{}/{}", w.kind, w.name)
    }

    #[test]
    fn replica_set_with_the_template_hash_is_its_deployment() {
        assert_eq!(
            owner_of(Some(("ReplicaSet", "web-5895c69847")), Some("5895c69847")),
            "deployment/web"
        );
    }

    #[test]
    fn replica_set_of_argo_rollouts_is_its_rollouts() {
        let mut of_rollout = pod(Some(("ReplicaSet", "web-5895c69847")), None);
        of_rollout.labels = Some([(ROLLOUTS_HASH.to_owned(), "5895c69847".to_owned())].into());
        let w = workload(&of_rollout);
        assert_eq!((w.kind.as_str(), w.name.as_str()), ("rollout", "web"));

        let mut meta = pod(Some(("Rollout", "web")), None);
        meta.labels = of_rollout.labels;
        meta.annotations = Some([(ROLLOUTS_REVISION.to_owned(), "7".to_owned())].into());
        let rs = replica_set_state(&ReplicaSet {
            metadata: meta,
            ..ReplicaSet::default()
        });
        assert_eq!(
            (rs.deployment.as_deref(), rs.kind.as_deref()),
            (Some("web"), Some("rollout"))
        );
        assert_eq!(
            (rs.template_hash.as_deref(), rs.revision),
            (Some("5895c69847"), Some(7))
        );
    }

    #[test]
    fn replica_set_of_another_name_stands_for_itself() {
        assert_eq!(owner_of(Some(("ReplicaSet", "web")), None), "replicaset/web");
        assert_eq!(
            owner_of(Some(("ReplicaSet", "web-1")), Some("2")),
            "replicaset/web-1"
        );
        assert_eq!(owner_of(Some(("ReplicaSet", "-1")), Some("1")), "replicaset/-1");
    }

    #[test]
    fn other_controllers_are_named_by_kind() {
        assert_eq!(owner_of(Some(("StatefulSet", "db")), None), "statefulset/db");
        assert_eq!(owner_of(Some(("DaemonSet", "agent")), None), "daemonset/agent");
        assert_eq!(owner_of(Some(("Job", "once")), None), "job/once");
    }

    #[test]
    fn pod_without_a_controller_is_its_own_workload() {
        assert_eq!(owner_of(None, None), "pod/p");
        assert_eq!(owner_of(Some(("Node", "n1")), None), "pod/p");
    }

    /// From a real cluster.
    #[test]
    fn replica_set_knows_its_revision() {
        let rs = replica_set_state(
            &serde_json::from_str(include_str!("../../tests/fixtures/replicaset.json")).unwrap(),
        );
        assert_eq!(rs.replica_set.to_string(), "default/web-f69fb6c58");
        assert_eq!(rs.deployment.as_deref(), Some("web"));
        assert_eq!(rs.template_hash.as_deref(), Some("f69fb6c58"));
        assert_eq!((rs.revision, rs.replicas), (Some(18), 1));
    }
}
