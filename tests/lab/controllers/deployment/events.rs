//! A Deployment's events.

use k8s_openapi::api::apps::v1::Deployment;

use crate::api::Store;
use crate::api::events::{Said, Source, record, reference};

/// pkg/controller/deployment/sync.go, scaleReplicaSet.
pub(super) fn scaled(store: &Store, deployment: &Deployment, set: &str, from: i32, to: i32) {
    let way = if to > from { "up" } else { "down" };
    let said = format!("Scaled {way} replica set {set} from {from} to {to}");
    let source = Source {
        component: "deployment-controller",
        host: None,
    };
    record(
        store,
        &reference(deployment),
        source,
        Said::normal("ScalingReplicaSet", &said),
    );
}
