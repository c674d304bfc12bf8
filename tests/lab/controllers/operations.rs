//! What an operator does to a running workload: the actions of a scenario.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::api::{Store, StoreError, begin_deletion};

/// Changes the pod template, which starts a rollout (`kubectl rollout restart` sets
/// `kubectl.kubernetes.io/restartedAt`). Setting the old value again is a rollback.
pub fn set_template_annotation(
    store: &Store,
    namespace: &str,
    name: &str,
    key: &str,
    value: &str,
) -> Result<Deployment, StoreError> {
    store.update(namespace, name, |deployment: &mut Deployment| {
        let template = &mut deployment.spec.get_or_insert_default().template;
        let annotations = template
            .metadata
            .get_or_insert_default()
            .annotations
            .get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
    })
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
