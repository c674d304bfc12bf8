//! Kubernetes objects, trimmed to what the correlator asks of them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{NsName, PodUid, Wall};

/// A pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    pub uid: PodUid,
    /// What the names of its cgroups say instead: of a static pod the hash of its manifest, since the kubelet runs it without the
    /// API server, which has a mirror of it with an uid of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_uid: Option<PodUid>,
    pub pod: NsName,
    pub ips: Vec<IpAddr>,
    pub host_network: bool,
    /// The controller, resolved as far as names and labels tell: a ReplicaSet `web-5895c69847` with the template hash
    /// `5895c69847` is Deployment `web`.
    pub workload: Option<Workload>,
    /// Label `pod-template-hash` or `controller-revision-hash`.
    pub template_hash: Option<String>,
    pub deletion: Option<Deletion>,
    /// `spec.terminationGracePeriodSeconds`
    pub grace_s: i64,
    /// `status.phase`
    pub phase: String,
    /// `status.reason`: why the kubelet ended it by itself (`Evicted`, `Terminated`, `NodeShutdown`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub ready: bool,
    /// `metadata.creationTimestamp`
    pub created: Option<Wall>,
    /// Type and reason of a true `DisruptionTarget` condition.
    pub disruption: Option<String>,
    pub containers: Vec<ContainerState>,
}

impl PodState {
    /// The kubelet ends the whole pod by itself, and nobody has deleted it: for want of resources, or because the node shuts
    /// down. The condition comes with the first signal; phase and reason when the containers have ended
    /// (pkg/kubelet/eviction/eviction_manager.go evictPod, pkg/kubelet/status/status_manager.go mergePodStatus).
    pub fn ended_by_kubelet(&self) -> bool {
        let condition = self.disruption.as_deref() == Some("DisruptionTarget:TerminationByKubelet");
        let reason = matches!(
            self.reason.as_deref(),
            Some("Evicted" | "Preempting" | "Terminated" | "NodeShutdown")
        );
        condition || (reason && self.phase == "Failed")
    }

    /// It was told to go.
    pub fn told_to_go(&self) -> bool {
        self.deletion.is_some() || self.ended_by_kubelet()
    }
}

/// `metadata.deletionTimestamp` and what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When the grace ends (deletion time + grace), resolution 1 s.
    pub timestamp: Wall,
    /// `metadata.deletionGracePeriodSeconds`
    pub grace_s: i64,
}

/// Kind and name of the object that owns a pod for its user.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Lower case: `deployment`, `statefulset`, `daemonset`, `replicaset`, `job`, `pod`, `rollout` (Argo Rollouts).
    pub kind: String,
    pub name: String,
}

/// One container's specification and status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub name: String,
    /// Runtime id without its scheme (`containerd://`); empty before it runs.
    pub id: String,
    pub restarts: i32,
    /// `running`, `waiting:<reason>`, `terminated:<exit code>:<reason>`.
    pub state: String,
    /// The same of its previous run (`lastState`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_state: Option<String>,
    /// TCP ports that it declares (`containerPort`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// It has a readiness probe.
    #[serde(default)]
    pub readiness: bool,
    /// Ports that the kubelet probes.
    pub probe_ports: Vec<u16>,
    /// preStop, as `sleep:<seconds>`, `exec` or `http`.
    pub pre_stop: Option<String>,
}

/// One endpoint slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SliceState {
    pub slice: NsName,
    /// Label `kubernetes.io/service-name`.
    pub service: String,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<EndpointState>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlicePort {
    pub name: String,
    pub port: u16,
    /// `TCP`, `UDP`, `SCTP`
    pub protocol: String,
}

/// One endpoint of a slice with its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointState {
    pub addrs: Vec<IpAddr>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// `targetRef` where it is a pod.
    pub pod: Option<(PodUid, String)>,
    pub node: Option<String>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceState {
    pub service: NsName,
    /// Cluster, external and load balancer addresses.
    pub vips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    /// `spec.selector`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// `externalTrafficPolicy: Local`: what comes from outside the cluster goes to pods of the node that it reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`: the same for clients in the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal_local: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    /// 0: none
    pub node_port: u16,
    pub protocol: String,
}

/// One ReplicaSet: which revision its template hash is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplicaSetState {
    pub replica_set: NsName,
    /// Name of the owning Deployment (or of what `kind` says).
    pub deployment: Option<String>,
    /// Kind of that owner where it is no Deployment but works as one: `rollout` (Argo Rollouts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub template_hash: Option<String>,
    /// Annotation `deployment.kubernetes.io/revision`.
    pub revision: Option<u64>,
    /// `spec.replicas`
    pub replicas: i32,
    /// Annotation `deployment.kubernetes.io/desired-replicas`: what its Deployment wants of all its ReplicaSets together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
    /// Of the owner, which tells a Deployment from one of the same name that was created after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<String>,
    /// It was told to go (`metadata.deletionTimestamp`): it waits for its pods (`--cascade=foreground`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}
