//! The kubelet registers its node: an object that others cordon and taint.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node as Object, NodeAddress, NodeCondition, NodeSpec, NodeStatus},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

use crate::{api::store::Store, node::Node};

/// KubeletConfiguration maxPods, default.
const MAX_PODS: &str = "110";

pub(super) fn register(node: &Node, store: &Store) {
    let now = Some(Time(Timestamp::now()));
    let ready = NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        reason: Some("KubeletReady".to_owned()),
        message: Some("kubelet is posting ready status".to_owned()),
        last_heartbeat_time: now.clone(),
        last_transition_time: now,
    };
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    let ips = node
        .ips()
        .into_iter()
        .map(|ip| address("InternalIP", ip.to_string()));
    let addresses = ips.chain([address("Hostname", node.name().to_owned())]).collect();
    let room = BTreeMap::from([("pods".to_owned(), Quantity(MAX_PODS.to_owned()))]);
    let created = store.create(Object {
        metadata: ObjectMeta {
            name: Some(node.name().to_owned()),
            labels: Some(BTreeMap::from([
                ("kubernetes.io/hostname".to_owned(), node.name().to_owned()),
                ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(NodeStatus {
            addresses: Some(addresses),
            capacity: Some(room.clone()),
            allocatable: Some(room),
            conditions: Some(vec![ready]),
            ..NodeStatus::default()
        }),
    });
    if let Err(error) = created {
        tracing::debug!(%error, "the node is registered already");
    }
}
