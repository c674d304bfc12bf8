//! One container of a pod: what it runs, and what the kubelet knows of it.

use std::{net::IpAddr, path::PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::task::JoinSet;

use crate::node::{
    Node,
    memory::Limit,
    runc::{ContainerSpec, Exit, Pids, Process},
};

/// A container in the kubelet's memory.
pub(super) struct Running {
    pub spec: Container,
    /// 64 hex digits; empty before the first start.
    pub id: String,
    pub process: Option<Process>,
    pub started_at: Option<Timestamp>,
    /// The current (or last) run's end.
    pub ended: Option<Ended>,
    /// The run before: its id and its end.
    pub before: Option<(String, Ended)>,
    pub restarts: i32,
    /// A native sidecar (KEP-753): an init container with restartPolicy Always.
    pub sidecar: bool,
    pub memory: Option<Limit>,
    /// A probe failed and the kubelet ends this run.
    pub killed: bool,
    /// The startup probe succeeded, or there is none.
    pub started: bool,
    /// The readiness probe's last word, or true without one.
    pub ready: bool,
    /// Ends with the container.
    pub probes: JoinSet<()>,
}

/// How a container's run ended, as the runtime reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub exit: Exit,
    pub started: Option<Timestamp>,
    pub at: Timestamp,
    /// The OOM killer took one of its processes, this one or a child.
    pub oom: bool,
}

impl Ended {
    /// containerd internal/cri/server/container_status.go, toCRIContainerStatus.
    pub(super) fn reason(self) -> &'static str {
        match self.exit.code {
            _ if self.oom => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        }
    }
}

impl Running {
    pub(super) fn new(spec: Container) -> Self {
        Self {
            sidecar: false,
            memory: None,
            killed: false,
            spec,
            id: String::new(),
            process: None,
            started_at: None,
            ended: None,
            before: None,
            restarts: 0,
            started: false,
            ready: false,
            probes: JoinSet::new(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.process.is_some() && self.ended.is_none()
    }

    /// Its process is dead: what the runtime says about it.
    pub(super) fn note_end(&mut self, exit: Exit) {
        let oom = self.memory.as_ref().is_some_and(|limit| limit.oom_kills() > 0);
        self.ended = Some(Ended {
            exit,
            started: self.started_at,
            at: Timestamp::now(),
            oom,
        });
    }
}

/// A pod's containers in the order of their start: native sidecars, then the others.
pub(super) fn all(pod: &Pod) -> Vec<Running> {
    let spec = pod.spec.clone().unwrap_or_default();
    let sidecars = spec
        .init_containers
        .unwrap_or_default()
        .into_iter()
        .map(|spec| Running {
            sidecar: true,
            ..Running::new(spec)
        });
    sidecars
        .chain(spec.containers.into_iter().map(Running::new))
        .collect()
}

/// `resources.limits.memory` in bytes: a number, or one with Ki, Mi or Gi.
pub(super) fn memory_limit(container: &Container) -> Option<u64> {
    let text = &container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0;
    let (number, shift) = match text.strip_suffix('i').unwrap_or(text) {
        t if t.ends_with('K') => (t.strip_suffix('K')?, 10),
        t if t.ends_with('M') => (t.strip_suffix('M')?, 20),
        t if t.ends_with('G') => (t.strip_suffix('G')?, 30),
        t => (t, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// 64 hex digits, as containerd's ids.
pub(super) fn container_id(random: &mut fastrand::Rng) -> String {
    format!("{:032x}{:032x}", random.u128(..), random.u128(..))
}

/// What runs: `command` and `args`. Without a command it is the test server.
fn argv(node: &Node, container: &Container, env: &[(String, String)]) -> Vec<String> {
    let server = || vec!["zdt-lab".to_owned(), "app".to_owned()];
    let mut argv = resolve(node, container.command.clone().unwrap_or_else(server));
    argv.extend(container.args.clone().unwrap_or_default());
    // As third_party/forked/golang/expansion has it, without the escape.
    for arg in argv.iter_mut().filter(|arg| arg.contains("$(")) {
        for (name, value) in env {
            *arg = arg.replace(&format!("$({name})"), value);
        }
    }
    argv
}

/// The command `zdt-lab` (as the image has it: `/zdt-lab`) is this lab's own binary.
pub(super) fn resolve(node: &Node, mut argv: Vec<String>) -> Vec<String> {
    if let Some(first) = argv
        .first_mut()
        .filter(|first| first.trim_start_matches('/') == "zdt-lab")
    {
        *first = node.settings().exe.display().to_string();
    }
    argv
}

pub(super) fn environment(
    node: &Node,
    pod: &Pod,
    container: &Container,
    ips: &[IpAddr],
) -> Vec<(String, String)> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut env = vec![
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("HOSTNAME".to_owned(), name.clone()),
    ];
    for var in container.env.iter().flatten() {
        let field = var
            .value_from
            .as_ref()
            .and_then(|v| v.field_ref.as_ref())
            .map(|f| f.field_path.as_str());
        let value = match field {
            Some("metadata.name") => name.clone(),
            Some("metadata.namespace") => pod.metadata.namespace.clone().unwrap_or_default(),
            Some("metadata.uid") => pod.metadata.uid.clone().unwrap_or_default(),
            Some("spec.nodeName") => node.name().to_owned(),
            Some("status.podIP") => ips.first().map(ToString::to_string).unwrap_or_default(),
            Some("status.hostIP") => node.net().ip().to_string(),
            _ => var.value.clone().unwrap_or_default(),
        };
        env.push((var.name.clone(), value));
    }
    env
}

/// Where a container is put.
pub(super) struct Place {
    pub netns: String,
    pub cgroup: PathBuf,
    pub memory: Option<PathBuf>,
}

/// How to start `container` of `pod` in its place.
pub(super) fn spec(
    node: &Node,
    pod: &Pod,
    container: &Container,
    ips: &[IpAddr],
    place: Place,
) -> ContainerSpec {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let host_pid = pod.spec.as_ref().and_then(|spec| spec.host_pid) == Some(true);
    let env = environment(node, pod, container, ips);
    ContainerSpec {
        argv: argv(node, container, &env),
        env,
        netns: place.netns,
        cgroup: Some(place.cgroup),
        memory: place.memory,
        log: node.settings().out.join(format!("{name}.{}.log", container.name)),
        hostname: Some(name),
        pids: if host_pid { Pids::Shared } else { Pids::Own },
    }
}

/// The sandbox's process.
pub(super) fn pause(node: &Node, pod: &Pod, netns: &str, cgroup: PathBuf) -> ContainerSpec {
    ContainerSpec {
        argv: vec![node.settings().exe.display().to_string(), "pause".to_owned()],
        env: Vec::new(),
        netns: netns.to_owned(),
        cgroup: Some(cgroup),
        memory: None,
        log: node.settings().out.join("pause.log"),
        hostname: pod.metadata.name.clone(),
        pids: Pids::Own,
    }
}
