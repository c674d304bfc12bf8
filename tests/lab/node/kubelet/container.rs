//! One container of a pod: what it runs, and what the kubelet knows of it.

use std::{net::IpAddr, path::PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::task::JoinSet;

use crate::node::{
    Node,
    runc::{ContainerSpec, Exit, Process},
};

/// A container in the kubelet's memory.
pub(super) struct Running {
    pub spec: Container,
    /// 64 hex digits; empty before the first start.
    pub id: String,
    pub process: Option<Process>,
    pub started_at: Option<Timestamp>,
    /// The current (or last) run's end.
    pub ended: Option<(Exit, Timestamp)>,
    /// The run before: its id and its end.
    pub before: Option<(String, Exit, Timestamp)>,
    pub restarts: i32,
    /// The startup probe succeeded, or there is none.
    pub started: bool,
    /// The readiness probe's last word, or true without one.
    pub ready: bool,
    /// Ends with the container.
    pub probes: JoinSet<()>,
}

impl Running {
    pub(super) fn new(spec: Container) -> Self {
        Self {
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
}

/// 64 hex digits, as containerd's ids.
pub(super) fn container_id(random: &mut fastrand::Rng) -> String {
    format!("{:032x}{:032x}", random.u128(..), random.u128(..))
}

/// What runs: `command` and `args`. Without a command, or with the command `zdt-lab`, it is this lab's own binary, and
/// without both the test server.
fn argv(node: &Node, container: &Container) -> Vec<String> {
    let exe = node.settings().exe.display().to_string();
    let mut argv = container.command.clone().unwrap_or_default();
    match argv.first_mut() {
        Some(first) if first == "zdt-lab" => *first = exe,
        Some(_) => {}
        None => argv = vec![exe, "app".to_owned()],
    }
    argv.extend(container.args.clone().unwrap_or_default());
    argv
}

fn environment(node: &Node, pod: &Pod, container: &Container, ips: &[IpAddr]) -> Vec<(String, String)> {
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

/// How to start `container` of `pod` in namespace `netns` and cgroup `cgroup`.
pub(super) fn spec(
    node: &Node,
    pod: &Pod,
    container: &Container,
    netns: &str,
    ips: &[IpAddr],
    cgroup: PathBuf,
) -> ContainerSpec {
    let name = pod.metadata.name.clone().unwrap_or_default();
    ContainerSpec {
        argv: argv(node, container),
        env: environment(node, pod, container, ips),
        netns: netns.to_owned(),
        cgroup: Some(cgroup),
        log: node.settings().out.join(format!("{name}.{}.log", container.name)),
        hostname: Some(name),
        own_pids: true,
    }
}

/// The sandbox's process.
pub(super) fn pause(node: &Node, pod: &Pod, netns: &str, cgroup: PathBuf) -> ContainerSpec {
    ContainerSpec {
        argv: vec![node.settings().exe.display().to_string(), "pause".to_owned()],
        env: Vec::new(),
        netns: netns.to_owned(),
        cgroup: Some(cgroup),
        log: node.settings().out.join("pause.log"),
        hostname: pod.metadata.name.clone(),
        own_pids: true,
    }
}
