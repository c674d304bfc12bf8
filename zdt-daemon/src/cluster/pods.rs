//! A pod as the API has it, cut down to what zdt uses.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, ContainerState as ApiState, ContainerStatus, LifecycleHandler, Pod,
        PodSpec, PodStatus, Probe,
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, Time},
        util::intstr::IntOrString,
    },
};

use super::owners::{POD_TEMPLATE_HASH, ROLLOUTS_HASH, label, ns_name, workload};
use crate::input::{ContainerState, Deletion, PodState, PodUid, Wall};

/// Default of `spec.terminationGracePeriodSeconds` (core/v1).
const DEFAULT_GRACE_S: i64 = 30;

/// Translates a pod. Says what the API says: an update whose `status.podIP` is blank has no addresses here either
/// (kubernetes/kubernetes#125370).
pub fn pod_state(pod: &Pod) -> PodState {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    PodState {
        uid: PodUid(meta.uid.as_deref().unwrap_or_default().into()),
        cgroup_uid: static_uid(meta),
        pod: ns_name(meta),
        ips: status.map(ips).unwrap_or_default(),
        host_network: spec.and_then(|s| s.host_network).unwrap_or(false),
        workload: Some(workload(meta)),
        template_hash: label(meta, POD_TEMPLATE_HASH)
            .or_else(|| label(meta, ROLLOUTS_HASH))
            .or_else(|| label(meta, "controller-revision-hash")),
        deletion: meta.deletion_timestamp.as_ref().map(|t| Deletion {
            timestamp: wall(t),
            grace_s: meta.deletion_grace_period_seconds.unwrap_or(0),
        }),
        grace_s: spec
            .and_then(|s| s.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_S),
        phase: status.and_then(|s| s.phase.clone()).unwrap_or_default(),
        reason: status
            .and_then(|s| s.reason.clone())
            .filter(|reason| !reason.is_empty()),
        ready: status.is_some_and(|s| true_condition(s, "Ready").is_some()),
        created: meta.creation_timestamp.as_ref().map(wall),
        disruption: status
            .and_then(|s| true_condition(s, "DisruptionTarget"))
            .map(|reason| {
                if reason.is_empty() {
                    "DisruptionTarget".to_owned()
                } else {
                    format!("DisruptionTarget:{reason}")
                }
            }),
        containers: spec.map(|s| containers(s, status)).unwrap_or_default(),
    }
}

/// Of a static pod's mirror: the uid that its kubelet gave it (pkg/kubelet/config/common.go, applyDefaults; pkg/kubelet/types,
/// ConfigHashAnnotationKey and ConfigMirrorAnnotationKey).
fn static_uid(meta: &ObjectMeta) -> Option<PodUid> {
    let annotations = meta.annotations.as_ref()?;
    annotations.get("kubernetes.io/config.mirror")?;
    let hash = annotations.get("kubernetes.io/config.hash")?;
    (!hash.is_empty()).then(|| PodUid(hash.as_str().into()))
}

fn wall(time: &Time) -> Wall {
    Wall(time.0.as_millisecond())
}

fn ips(status: &PodStatus) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    for ip in all
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
    {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}

/// Reason of a condition that is true.
fn true_condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a str> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == type_ && c.status == "True")
        .map(|c| c.reason.as_deref().unwrap_or_default())
}

/// Containers that run beside each other: the ordinary ones, and the init containers that never end (sidecars,
/// `restartPolicy: Always`, KEP-753).
fn containers(spec: &PodSpec, status: Option<&PodStatus>) -> Vec<ContainerState> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let statuses: Vec<&ContainerStatus> = status
        .iter()
        .flat_map(|s| {
            s.container_statuses
                .iter()
                .chain(&s.init_container_statuses)
                .flatten()
        })
        .collect();
    spec.containers
        .iter()
        .chain(sidecars)
        .map(|c| container(c, statuses.iter().find(|s| s.name == c.name).copied()))
        .collect()
}

fn container(spec: &Container, status: Option<&ContainerStatus>) -> ContainerState {
    let id = status.and_then(|s| s.container_id.as_deref()).unwrap_or_default();
    let probes = [&spec.liveness_probe, &spec.readiness_probe, &spec.startup_probe];
    let mut probe_ports: Vec<u16> = probes
        .into_iter()
        .flatten()
        .filter_map(|p| probe_port(p, spec))
        .collect();
    probe_ports.sort_unstable();
    probe_ports.dedup();
    ContainerState {
        name: spec.name.clone(),
        id: id.split_once("://").map_or(id, |(_, id)| id).to_owned(),
        restarts: status.map_or(0, |s| s.restart_count),
        state: status
            .and_then(|s| s.state.as_ref())
            .map(running)
            .unwrap_or_default(),
        last_state: status
            .and_then(|s| s.last_state.as_ref())
            .filter(|s| s.terminated.is_some())
            .map(running),
        ports: spec.ports.iter().flatten().filter_map(tcp_port).collect(),
        readiness: spec.readiness_probe.is_some(),
        probe_ports,
        pre_stop: spec
            .lifecycle
            .as_ref()
            .and_then(|l| l.pre_stop.as_ref())
            .and_then(pre_stop),
    }
}

fn running(state: &ApiState) -> String {
    if state.running.is_some() {
        return "running".into();
    }
    if let Some(t) = &state.terminated {
        return format!(
            "terminated:{}:{}",
            t.exit_code,
            t.reason.as_deref().unwrap_or_default()
        );
    }
    let reason = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
    format!("waiting:{}", reason.unwrap_or_default())
}

/// The port that the kubelet connects to; a named port is looked up among the container's.
fn probe_port(probe: &Probe, container: &Container) -> Option<u16> {
    let port = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(http), ..) => &http.port,
        (_, Some(tcp), _) => &tcp.port,
        (_, _, Some(grpc)) => return u16::try_from(grpc.port).ok(),
        _ => return None,
    };
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// A declared TCP port; no protocol means TCP (core/v1).
fn tcp_port(port: &ContainerPort) -> Option<u16> {
    let tcp = port.protocol.as_deref().is_none_or(|p| p == "TCP");
    u16::try_from(port.container_port).ok().filter(|_| tcp)
}

fn pre_stop(handler: &LifecycleHandler) -> Option<String> {
    if let Some(sleep) = &handler.sleep {
        return Some(format!("sleep:{}", sleep.seconds));
    }
    if handler.exec.is_some() {
        return Some("exec".into());
    }
    handler.http_get.is_some().then(|| "http".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{NsName, Workload};

    fn pod(json: &str) -> PodState {
        pod_state(&serde_json::from_str(json).unwrap())
    }

    /// From a real cluster: the old pod of a rolling update just after its containers ended.
    #[test]
    fn terminating_pod_is_read_whole() {
        let state = pod(include_str!("../../tests/fixtures/pod-terminating.json"));
        assert_eq!(
            state,
            PodState {
                uid: PodUid("6eb8ce33-66ec-4c5f-acb6-bd914cf4f354".into()),
                cgroup_uid: None,
                pod: NsName {
                    namespace: "default".into(),
                    name: "web-56b8768577-zchfv".into(),
                },
                ips: vec!["10.244.1.23".parse().unwrap()],
                host_network: false,
                workload: Some(Workload {
                    kind: "deployment".into(),
                    name: "web".into(),
                }),
                template_hash: Some("56b8768577".into()),
                deletion: Some(Deletion {
                    timestamp: Wall(1_795_319_519_000),
                    grace_s: 10,
                }),
                grace_s: 10,
                phase: "Succeeded".into(),
                reason: None,
                ready: false,
                created: Some(Wall(1_795_319_499_000)),
                disruption: None,
                containers: vec![ContainerState {
                    name: "app".into(),
                    id: "d809a60dc4b8dc98fd6685fef3bcb41dd99c85edc3b0eeee9d24f6237db3354d".into(),
                    restarts: 0,
                    state: "terminated:0:Completed".into(),
                    last_state: None,
                    ports: vec![8080],
                    readiness: true,
                    probe_ports: vec![8080],
                    pre_stop: None,
                }],
            }
        );
    }

    #[test]
    fn a_static_pods_mirror_has_the_uid_of_its_cgroups_beside_its_own() {
        let of = |annotations: &str| {
            let state = pod(&format!(
                r#"{{"metadata":{{"uid":"api","name":"etcd-n1","annotations":{annotations}}}}}"#
            ));
            assert_eq!(state.uid, PodUid("api".into()));
            state.cgroup_uid.map(|uid| uid.to_string())
        };
        let mirror = r#"{"kubernetes.io/config.hash":"7c1b","kubernetes.io/config.mirror":"7c1b",
            "kubernetes.io/config.source":"file"}"#;
        assert_eq!(of(mirror).as_deref(), Some("7c1b"));
        assert_eq!(
            of(r#"{"kubernetes.io/config.hash":"7c1b"}"#),
            None,
            "anybody may write that"
        );
        assert_eq!(of("{}"), None);
    }

    #[test]
    fn sidecars_named_ports_and_pre_stop_are_seen() {
        let state = pod(
            r#"{"metadata":{"uid":"u","name":"p","namespace":"n"},"spec":{"hostNetwork":true,
            "initContainers":[{"name":"setup"},{"name":"mesh","restartPolicy":"Always"}],
            "containers":[{"name":"app","ports":[{"name":"web","containerPort":8080}],
              "readinessProbe":{"httpGet":{"port":"web"}},"livenessProbe":{"tcpSocket":{"port":9090}},
              "lifecycle":{"preStop":{"sleep":{"seconds":2}}}},
              {"name":"b","lifecycle":{"preStop":{"exec":{"command":["x"]}}}}]},
            "status":{"phase":"Running","podIP":"","conditions":[
              {"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI"},
              {"type":"Ready","status":"True"}]}}"#,
        );
        let names: Vec<_> = state.containers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["app", "b", "mesh"]);
        assert_eq!(state.containers[0].probe_ports, [8080, 9090]);
        assert_eq!(state.containers[0].pre_stop.as_deref(), Some("sleep:2"));
        assert_eq!(state.containers[1].pre_stop.as_deref(), Some("exec"));
        assert_eq!(
            state.disruption.as_deref(),
            Some("DisruptionTarget:EvictionByEvictionAPI")
        );
        assert!(state.ready && state.host_network && state.ips.is_empty());
        assert_eq!(state.grace_s, 30);
    }

    /// What an eviction and an out-of-memory kill leave in the status.
    #[test]
    fn a_reason_a_previous_run_and_declared_ports_are_seen() {
        let state = pod(r#"{"metadata":{"uid":"u"},"spec":{"containers":[{"name":"app",
              "ports":[{"containerPort":8080},{"containerPort":53,"protocol":"UDP"}]}]},
            "status":{"phase":"Failed","reason":"Evicted","containerStatuses":[{"name":"app","image":"i","imageID":"",
              "ready":false,"restartCount":1,
              "state":{"waiting":{"reason":"CrashLoopBackOff"}},
              "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}}]}}"#);
        assert_eq!(state.reason.as_deref(), Some("Evicted"));
        let app = &state.containers[0];
        assert_eq!(app.ports, [8080]);
        assert_eq!((app.restarts, app.readiness), (1, false));
        assert_eq!(app.state, "waiting:CrashLoopBackOff");
        assert_eq!(app.last_state.as_deref(), Some("terminated:137:OOMKilled"));
    }

    #[test]
    fn both_addresses_of_a_dual_stack_pod_are_there_once() {
        let state = pod(
            r#"{"metadata":{"uid":"u"},"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#,
        );
        assert_eq!(
            state.ips,
            ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]
        );
    }
}
