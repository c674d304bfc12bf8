//! How each node of a scenario behaves, and which of them get its pods.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;

use super::cluster::within;
use crate::{
    node::{self, Delay, Node},
    scenario::{Backend, Place, Scenario},
};

/// How one node behaves.
pub(super) fn settings(scenario: &Scenario, seed: u64, number: u8, lab: &Path, out: &Path) -> node::Settings {
    let network = &scenario.network;
    let mut settings = node::Settings::new(lab.to_owned(), out.to_owned());
    settings.number = number;
    // Nodes draw their delays apart.
    settings.seed = seed.wrapping_add(u64::from(number - 1) << 32);
    settings.backend = match network.backend {
        Backend::IptablesNft => node::Backend::Nft,
        Backend::IptablesLegacy => node::Backend::Legacy,
        Backend::Nftables => node::Backend::Nftables,
    };
    settings.udp_cleanup = network.udp_cleanup;
    settings.policy_delay_ms = network.policy_delay_ms;
    if network.reuse_addresses {
        settings.reuse = crate::net::Reuse::LowestFree;
    }
    let timings = &mut settings.timings;
    timings.min_sync_period_ms = Delay::fixed(network.min_sync_period_ms as f64);
    timings.crash_back_off_ms = Delay::fixed(f64::from(scenario.workload.crash_back_off_ms));
    if network.rules_delay_node.is_none_or(|late| late == number) {
        timings.proxy_late_ms = Delay::fixed(network.rules_delay_ms as f64);
    }
    settings
}

/// Waits until the policy engines know every pod there is: what they drop from then on is for pods of the rollout.
pub(super) async fn policies_there(nodes: &[Arc<Node>], scenario: &Scenario) -> Result<()> {
    if scenario.network.policy_delay_ms == 0 {
        return Ok(());
    }
    let limit = Duration::from_millis(scenario.network.policy_delay_ms) + Duration::from_secs(10);
    let wait = async {
        for node in nodes {
            while node::policy_drops_something(node)? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    };
    within("the policy engine to know the pods", limit, wait).await?
}

/// The names of the nodes that get the workloads' pods.
pub(super) fn pods_on(scenario: &Scenario) -> Vec<String> {
    let topology = &scenario.topology;
    let free = u8::from(scenario.client.place == Place::OtherNode);
    let all = (1..=topology.nodes.saturating_sub(free)).collect();
    let numbers = topology.pods_on.clone().unwrap_or(all);
    numbers.iter().map(|n| format!("n{n}")).collect()
}
