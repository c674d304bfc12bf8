//! The load client of a run: a pod, or a process beyond the nodes' router.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;

use super::{
    Files,
    cluster::{Cluster, PATIENCE, within},
    objects::{self, CLIENT},
};
use crate::{
    node::runc::Process,
    scenario::{Place, Scenario},
};

/// A client that has begun to send.
pub(super) enum Load {
    Pod,
    Outside(Process),
}

impl Load {
    /// Starts it and waits until it runs.
    pub(super) async fn start(
        cluster: &Cluster,
        scenario: &Scenario,
        target: SocketAddr,
        seed: u64,
        files: &Files,
    ) -> Result<Self> {
        let args = objects::client_args(&scenario.client, target, seed, &files.truth());
        let node = match scenario.client.place {
            Place::SameNode => cluster.nodes.first(),
            Place::OtherNode => cluster.nodes.last(),
            Place::Outside => {
                let log = files.dir.join(format!("{CLIENT}.log"));
                let process = cluster.spawn_outside(args, &log).await?;
                return Ok(Self::Outside(process));
            }
        };
        let node = node.context("no node for the client")?;
        cluster
            .store
            .create::<Pod>(objects::client(CLIENT, node.name(), args))?;
        let running = || cluster.phase(CLIENT).is_some_and(|p| p != "Pending");
        cluster.until("the client's start", PATIENCE, running).await?;
        Ok(Self::Pod)
    }

    /// Waits until it has ended well.
    pub(super) async fn ended(&self, cluster: &Cluster, scenario: &Scenario) -> Result<()> {
        let limit = Duration::from_secs_f64(scenario.client.seconds)
            + Duration::from_millis(scenario.client.timeout_ms)
            + PATIENCE;
        match self {
            Self::Pod => {
                let phase = || cluster.phase(CLIENT);
                let ended = || phase().is_some_and(|p| p == "Succeeded" || p == "Failed");
                cluster.until("the client's end", limit, ended).await?;
                if phase().as_deref() == Some("Failed") {
                    bail!("the load client failed; its log is {CLIENT}.{CLIENT}.log in the run's folder");
                }
            }
            Self::Outside(process) => {
                let exit = within("the client's end", limit, process.wait()).await?;
                if exit.code != 0 {
                    bail!("the load client failed; its log is {CLIENT}.log in the run's folder");
                }
            }
        }
        Ok(())
    }
}
