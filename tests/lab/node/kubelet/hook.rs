//! preStop hooks: sleep, a command in the container, or a GET.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::LifecycleHandler;
use tokio::time::sleep;

use super::{container, probe, stop::Ending};
use crate::node::runc::{ContainerSpec, Pids};

/// Runs the hook to its end; an error is what the event says.
pub(super) async fn run(hook: &LifecycleHandler, ending: &Ending) -> Result<(), String> {
    if let Some(sleeps) = &hook.sleep {
        sleep(Duration::from_secs(u64::try_from(sleeps.seconds).unwrap_or(0))).await;
        Ok(())
    } else if let Some(exec) = &hook.exec {
        command(exec.command.clone().unwrap_or_default(), ending).await
    } else if let Some(http) = &hook.http_get {
        let port = probe::port(&http.port, &ending.container).map_err(|e| e.to_string())?;
        let addr = SocketAddr::new(ending.pod_ip, port);
        let netns = ending.node.net().netns();
        probe::get(netns, addr, http).await.map_err(|e| e.to_string())
    } else {
        Err("the lab knows sleep, exec and httpGet hooks".to_owned())
    }
}

/// A process in the container's namespaces and cgroups. It outlives the kubelet's patience: only the container's end ends
/// it, as PID 1's death does for all of its PID namespace.
async fn command(argv: Vec<String>, ending: &Ending) -> Result<(), String> {
    let name = argv.first().cloned().unwrap_or_default();
    let spec = ContainerSpec {
        argv: container::resolve(&ending.node, argv),
        env: container::environment(&ending.node, &ending.pod, &ending.container, &[ending.pod_ip]),
        netns: ending.netns.clone(),
        cgroup: Some(ending.cgroup.clone()),
        memory: ending.memory.clone(),
        hostname: None,
        pids: Pids::Of(ending.process.pid()),
        log: ending.node.settings().out.join(format!(
            "{}.{}.log",
            ending.pod.metadata.name.as_deref().unwrap_or_default(),
            ending.container.name
        )),
    };
    let process = ending
        .node
        .runc()
        .create(spec)
        .await
        .map_err(|error| format!("OCI runtime exec failed: exec: {name:?}: {error}"))?;
    match process.wait().await.code {
        0 => Ok(()),
        code => Err(format!("command '{name}' exited with {code}")),
    }
}
