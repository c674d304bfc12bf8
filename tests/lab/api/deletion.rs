//! Graceful deletion of a pod, as the API server does it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::store::{Store, StoreError};

/// Asks for a pod's graceful deletion, as `DELETE` on the API does: sets deletionTimestamp = now + grace and
/// deletionGracePeriodSeconds. `grace_s`: seconds, `None` = the pod's own terminationGracePeriodSeconds (default 30).
/// A second call may only shorten it, counted from the first request (apiserver rest.BeforeDelete); grace 0 is how the
/// kubelet ends a pod, which it then removes. A pod without a node is removed at once: no kubelet will.
pub fn begin_deletion(
    store: &Store,
    namespace: &str,
    name: &str,
    grace_s: Option<i64>,
) -> Result<Pod, StoreError> {
    let updated = store.update::<Pod>(namespace, name, |pod| {
        let spec_grace = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        let grace = grace_s.or(spec_grace).unwrap_or(30).max(0);
        let meta = &mut pod.metadata;
        let requested = match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (Some(_), Some(current)) if grace >= current => return,
            (Some(Time(until)), Some(current)) => until.checked_sub(SignedDuration::from_secs(current)),
            _ => Ok(Timestamp::now()),
        };
        let until = requested.and_then(|at| at.checked_add(Duration::from_secs(grace.unsigned_abs())));
        // Out of jiff's range (year 9999) means "never": leave the field away rather than fail.
        meta.deletion_timestamp = until.ok().map(Time);
        meta.deletion_grace_period_seconds = Some(grace);
    })?;
    if updated
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .is_none()
    {
        return store.remove(namespace, name);
    }
    Ok(updated)
}
