//! What the kubelet reports: `pod.status`.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::container::{Ended, Running};
use crate::node::{Node, cgroup::Qos};

/// How far the pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The node has it; no sandbox yet.
    Admitted,
    /// The sandbox is up.
    Sandboxed,
    Running,
    /// All containers are dead and stay so.
    Terminal,
}

/// The status of `pod` as it is now. Transition times of conditions that do not change are kept.
pub(super) fn build(
    node: &Node,
    pod: &Pod,
    stage: Stage,
    containers: &[Running],
    ips: &[IpAddr],
) -> PodStatus {
    let now = Time(Timestamp::now());
    let old = pod.status.clone().unwrap_or_default();
    let running = stage == Stage::Running;
    // A deletion is a new generation of the pod (1.36: 1 → 2); the report that follows it says nothing else.
    let observed = pod
        .metadata
        .generation
        .or(Some(1 + i64::from(pod.metadata.deletion_timestamp.is_some())));
    let ready = running && containers.iter().all(|c| c.runs() && c.ready);
    let phase = match stage {
        Stage::Admitted | Stage::Sandboxed => "Pending",
        Stage::Running => "Running",
        // pkg/kubelet/kubelet_pods.go, getPhase.
        Stage::Terminal
            if containers
                .iter()
                .filter(|c| !c.sidecar)
                .all(|c| matches!(&c.ended, Some(ended) if ended.exit.code == 0)) =>
        {
            "Succeeded"
        }
        Stage::Terminal => "Failed",
    };
    let reason = match stage {
        Stage::Terminal if phase == "Succeeded" => Some("PodCompleted"),
        Stage::Terminal => Some("PodFailed"),
        _ if ready => None,
        _ => Some("ContainersNotReady"),
    };
    let conditions = [
        (
            "PodReadyToStartContainers",
            matches!(stage, Stage::Sandboxed | Stage::Running),
            None,
        ),
        ("Initialized", true, None),
        ("Ready", ready, reason),
        ("ContainersReady", ready, reason),
        ("PodScheduled", true, None),
    ];
    let mut kept: Vec<PodCondition> = old.conditions.clone().unwrap_or_default();
    let before = kept.clone();
    kept.retain(|c| conditions.iter().all(|(name, ..)| c.type_ != *name));
    let mut all: Vec<PodCondition> = conditions
        .iter()
        .map(|(name, holds, reason)| {
            let status = if *holds { "True" } else { "False" };
            let same = before.iter().find(|c| c.type_ == *name && c.status == status);
            PodCondition {
                type_: (*name).to_owned(),
                status: status.to_owned(),
                reason: reason.map(str::to_owned),
                observed_generation: observed,
                last_transition_time: same
                    .map_or_else(|| Some(now.clone()), |c| c.last_transition_time.clone()),
                ..PodCondition::default()
            }
        })
        .collect();
    // Others' conditions (DisruptionTarget) stay.
    all.append(&mut kept);
    let statuses = |sidecar: bool| -> Vec<ContainerStatus> {
        let own = containers.iter().filter(|c| c.sidecar == sidecar);
        own.map(|c| container(c, stage)).collect()
    };
    let has_ips = matches!(stage, Stage::Running | Stage::Terminal) && !ips.is_empty();
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(all),
        container_statuses: Some(statuses(false)),
        init_container_statuses: Some(statuses(true)).filter(|all| !all.is_empty()),
        host_ip: Some(node.net().ip().to_string()),
        host_ips: Some(
            node.net()
                .ips()
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: has_ips.then(|| ips.first().map(ToString::to_string)).flatten(),
        pod_ips: has_ips.then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        qos_class: Some(Qos::of(pod).class().to_owned()),
        observed_generation: observed,
        start_time: old.start_time.clone().or(Some(now)),
        ..old
    }
}

fn terminated(id: &str, ended: Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("containerd://{id}")),
            exit_code: ended.exit.code,
            finished_at: Some(Time(ended.at)),
            reason: Some(ended.reason().to_owned()),
            started_at: ended.started.map(Time),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            ..ContainerStateWaiting::default()
        }),
        ..ContainerState::default()
    }
}

fn container(c: &Running, stage: Stage) -> ContainerStatus {
    let before = c.before.as_ref().map(|(id, ended)| terminated(id, *ended));
    let (now, before) = match (c.ended, c.started_at) {
        (Some(ended), _) if stage == Stage::Terminal || c.restarts == 0 => (terminated(&c.id, ended), before),
        // In the back-off the run that just ended is the last state (kubelet_pods.go, convertToAPIContainerStatuses).
        (Some(ended), _) => (waiting("CrashLoopBackOff"), Some(terminated(&c.id, ended))),
        (None, Some(at)) => {
            let running = Some(ContainerStateRunning {
                started_at: Some(Time(at)),
            });
            (
                ContainerState {
                    running,
                    ..ContainerState::default()
                },
                before,
            )
        }
        (None, None) => (waiting("ContainerCreating"), None),
    };
    ContainerStatus {
        name: c.spec.name.clone(),
        image: c.spec.image.clone().unwrap_or_default(),
        image_id: c.spec.image.clone().unwrap_or_default(),
        container_id: (!c.id.is_empty()).then(|| format!("containerd://{}", c.id)),
        ready: c.runs() && c.ready,
        started: Some(c.runs() && c.started),
        restart_count: c.restarts,
        last_state: before,
        state: Some(now),
        ..ContainerStatus::default()
    }
}
