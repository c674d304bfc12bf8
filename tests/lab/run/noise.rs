//! What else happens in a cluster while something rolls: a port scanner, clients that hang up, a pod that crashes, healthy
//! connections. None of it is the rollout's, and each verdict that says so is wrong.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Files,
    cluster::Cluster,
    objects::{APP_PORT, NAMESPACE},
};
use crate::controllers;

/// What the names of its pods begin with.
pub(super) const PREFIX: &str = "noise-";

const SERVER: &str = "noise-server";
const CRASHING: &str = "noise-crashing";
const KEEPING: &str = "noise-keepalive";
const ABORTING: &str = "noise-aborting";
const SCANNER: &str = "noise-scanner";

/// They go on for this long after the load client.
const LONGER_S: f64 = 3.0;

/// Starts the servers; waits until one can be talked to.
pub(super) async fn servers(cluster: &Cluster) -> Result<()> {
    // Slow enough for a client to hang up in the middle.
    let slow = ["--response-delay-ms", "200"].map(str::to_owned).to_vec();
    cluster
        .store
        .create::<Pod>(pod(cluster, SERVER, "app", slow, "Always")?)?;
    // Twice in a short run: the second restart waits for the back-off.
    let crash = ["--crash-after-ms", "3500"].map(str::to_owned).to_vec();
    cluster
        .store
        .create::<Pod>(pod(cluster, CRASHING, "app", crash, "Always")?)?;
    let limit = Duration::from_secs(30);
    cluster
        .until("the background's server", limit, || {
            address(cluster, SERVER).is_some()
        })
        .await
}

/// Starts those who connect.
pub(super) fn clients(cluster: &Cluster, seed: u64, files: &Files) -> Result<()> {
    let seconds = (cluster.scenario.client.seconds + LONGER_S).to_string();
    let server = address(cluster, SERVER).context("the background's server has no address")?;
    let client = |name: &str, target: String, more: &[&str]| {
        let truth = files.noise_truth(name).display().to_string();
        let seed = seed.to_string();
        let words = [
            "--target",
            &target,
            "--seconds",
            &seconds,
            "--seed",
            &seed,
            "--truth",
            &truth,
        ];
        let words = words.iter().chain(more).map(|w| (*w).to_owned()).collect();
        pod(cluster, name, "client", words, "Never")
    };
    let target = SocketAddr::new(server, APP_PORT).to_string();
    let kept = ["--mode", "keepalive", "--connections", "2", "--rate", "4"];
    let kept = client(KEEPING, target.clone(), &kept)?;
    let aborted = client(ABORTING, target, &["--rate", "2", "--abort-after-ms", "50"])?;
    let mut scanned = vec![
        "--seconds".to_owned(),
        seconds.clone(),
        "--seed".to_owned(),
        seed.to_string(),
    ];
    let nodes = cluster.nodes.iter().flat_map(|n| n.ips());
    let pods = cluster.ready_pods();
    let pods = pods.iter().filter_map(|p| cluster.address(p));
    for ip in nodes.chain(pods).filter(|ip| ip.is_ipv6() == server.is_ipv6()) {
        scanned.extend(["--target".to_owned(), ip.to_string()]);
    }
    let scanner = pod(cluster, SCANNER, "scan", scanned, "Never")?;
    for pod in [kept, aborted, scanner] {
        cluster.store.create::<Pod>(pod)?;
    }
    Ok(())
}

/// The addresses of all of it.
pub(super) fn addresses(cluster: &Cluster) -> Vec<IpAddr> {
    let names = [SERVER, CRASHING, KEEPING, ABORTING, SCANNER];
    let pods = names
        .iter()
        .filter_map(|name| cluster.store.get::<Pod>(NAMESPACE, name));
    pods.flat_map(|pod| {
        let ips = pod.status.and_then(|s| s.pod_ips).unwrap_or_default();
        ips.into_iter().filter_map(|ip| ip.ip.parse().ok())
    })
    .collect()
}

fn address(cluster: &Cluster, name: &str) -> Option<IpAddr> {
    let pod = cluster.store.get::<Pod>(NAMESPACE, name)?;
    controllers::pods::ready(&pod).then(|| cluster.address(&pod))?
}

/// A bare pod on the last node that runs a verb of the lab.
fn pod(cluster: &Cluster, name: &str, verb: &str, words: Vec<String>, restart: &str) -> Result<Pod> {
    let node = cluster.nodes.last().context("no node")?;
    let any = ["--listen".to_owned(), "[::]:8080".to_owned()];
    let words = if verb == "app" {
        any.into_iter().chain(words).collect()
    } else {
        words
    };
    Ok(Pod {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(controllers::objects::app(name)),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.name().to_owned()),
            restart_policy: Some(restart.to_owned()),
            termination_grace_period_seconds: Some(1),
            containers: vec![Container {
                name: name.to_owned(),
                image: Some("zdt-lab".to_owned()),
                command: Some(vec!["zdt-lab".to_owned(), verb.to_owned()]),
                args: Some(words),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    })
}
