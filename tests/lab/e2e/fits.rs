//! What of a scenario a cluster can express through its API alone. Pure.

use crate::scenario::{Client, Place, Scenario, Step, Via, Workload};

/// An error says why not. What only makes the lab's nodes slow or busy (the rules' delays, the backend, the noise, the
/// back-off of crashes) is the cluster's own there, and no reason.
pub(super) fn fits(scenario: &Scenario, nodes: usize) -> Result<(), String> {
    let network = &scenario.network;
    let wanted = usize::from(scenario.topology.nodes);
    let reasons = [
        (
            scenario.proxy.is_some(),
            "a proxy in front: its access log is in no pod's log",
        ),
        (
            network.policy_delay_ms > 0,
            "network.policy_delay_ms: the lab's own policy engine",
        ),
        (
            network.reuse_addresses,
            "network.reuse_addresses: who gives addresses is the cluster's",
        ),
        (!network.udp_cleanup, "network.udp_cleanup: kube-proxy's own"),
        (
            scenario.topology.pods_on.is_some(),
            "topology.pods_on: the scheduler decides where pods are",
        ),
        (
            scenario.app.invalid_segment_every.is_some(),
            "app.invalid_segment_every: needs a raw socket",
        ),
    ];
    if let Some((_, why)) = reasons.iter().find(|(met, _)| *met) {
        return Err((*why).to_owned());
    }
    if wanted > nodes {
        return Err(format!(
            "{wanted} nodes wanted, the cluster has {nodes} that zdt and pods run on"
        ));
    }
    client(&scenario.client, nodes)?;
    workload(&scenario.workload)?;
    scenario
        .beside
        .iter()
        .try_for_each(|beside| workload(&beside.workload))?;
    scenario.actions.iter().try_for_each(|action| step(&action.what))
}

fn client(client: &Client, nodes: usize) -> Result<(), String> {
    match (client.place, client.via) {
        (Place::Outside, _) => Err("client.place outside: the client is a pod".to_owned()),
        (Place::OtherNode, _) if nodes < 2 => Err("client.place other-node: there is one node".to_owned()),
        (_, Via::NodePort) => {
            Err("client.via node-port: what the client was masqueraded to is in no log".to_owned())
        }
        _ => Ok(()),
    }
}

fn workload(workload: &Workload) -> Result<(), String> {
    if workload.host_network {
        Err("workload.host_network: would take a port of every node".to_owned())
    } else if workload.pre_stop_exec.is_some() {
        Err("workload.pre_stop_exec: the image has no program but the test server".to_owned())
    } else if workload.stop_signal.is_some() {
        Err("workload.stop_signal: most clusters drop it (feature ContainerStopSignals)".to_owned())
    } else {
        Ok(())
    }
}

fn step(step: &Step) -> Result<(), String> {
    let why = match step {
        Step::RollingUpdate
        | Step::Recreate
        | Step::Scale(_)
        | Step::Autoscale(_)
        | Step::DeletePod
        | Step::ForceDeletePod
        | Step::EvictPod
        | Step::SwitchSelector(_) => return Ok(()),
        Step::Apply(manifest) => return manifest.workload.as_ref().map_or(Ok(()), workload),
        Step::Replace => "was not tried on a cluster",
        Step::PreemptPod => "the scheduler preempts for want of room, which nobody can order",
        Step::RestartContainer => "is done by hand on the node",
        Step::DrainNode | Step::CordonNode | Step::UncordonNode => "others may use the node",
        Step::FillConntrack(_) | Step::MasqueradePorts(_) => "changes the node",
        Step::Api(_) => "others use the API server",
        Step::RestartDaemon(_) | Step::PauseDaemon(_) => "zdt is not this verb's to stop",
        Step::ReloadProxy | Step::SwitchBackend(_) => "there is no proxy",
    };
    Err(format!("{step}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn scenario(more: &str) -> Scenario {
        let text = format!("name: x\ndescription: y\n{more}");
        Scenario::parse(Path::new("x.yaml"), &text).unwrap()
    }

    #[test]
    fn what_makes_the_labs_nodes_slow_is_no_reason() {
        let slow = scenario(
            "network: {min_sync_period_ms: 100, rules_delay_ms: 1000, backend: nftables}\nnoise: true",
        );
        assert_eq!(fits(&slow, 1), Ok(()));
    }

    #[test]
    fn what_a_cluster_cannot_do_is_named() {
        let why = |more, nodes| fits(&scenario(more), nodes).unwrap_err();
        assert!(why("actions: [{at_ms: 1, do: drain-node}]", 2).starts_with("drain-node: "));
        assert!(why("client: {via: node-port}", 2).contains("node-port"));
        assert!(why("topology: {nodes: 2}", 1).contains("2 nodes"));
        assert!(why("workload: {stop_signal: SIGQUIT}", 1).contains("stop_signal"));
        assert!(why("network: {reuse_addresses: true}", 1).contains("reuse_addresses"));
    }

    #[test]
    fn most_of_the_core_suite_fits() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/core");
        let all = Scenario::read_dir(&dir).unwrap();
        let fitting = all.iter().filter(|s| fits(s, 1).is_ok()).count();
        assert!(fitting + 2 >= all.len(), "{fitting} of {}", all.len());
    }
}
