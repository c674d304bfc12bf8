//! `zdt-lab up`: a cluster with zdt on every node as deploy/base installs it, kept until Ctrl-C.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{EnvVar, Namespace, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Binaries, cluster::Cluster, privileges};
use crate::{
    api::ApiServer,
    controllers::pods::ready,
    net::{Slot, fitting, require_root},
    scenario::{Backend, Scenario},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The daemon's binary
    #[arg(long, value_name = "FILE")]
    pub zdt: PathBuf,
    /// Folder for the logs, one folder in it for each cluster
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    pub out: PathBuf,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub nodes: u8,
    /// What each rewrite of the rules waits besides: a large table, a busy node
    #[arg(long, default_value_t = 0)]
    pub rules_delay_ms: u64,
    /// kube-proxy in its nftables mode; otherwise in its iptables mode
    #[arg(long)]
    pub nftables: bool,
    /// End with standard input, too: who started it through sudo may not signal it
    #[arg(long)]
    pub until_eof: bool,
}

/// Attaching the hooks takes half a second here; a loaded machine may take longer.
const START_LIMIT: Duration = Duration::from_mins(2);

/// Stays until SIGINT, SIGTERM or SIGHUP, and removes everything then.
pub fn run(args: &Args) -> Result<()> {
    require_root()?;
    let binaries = Binaries::keep(&args.zdt, &args.out)?;
    let out = args.out.join(format!("up-{}", process::id()));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let out = out.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut over = pin!(over(args.until_eof));
        let started = tokio::select! {
            started = start(args, &binaries, &out) => Some(started?),
            ended = &mut over => ended.map(|()| None)?,
        };
        if let Some((cluster, _api, kubeconfig)) = started {
            println!("{}", kubeconfig.display());
            over.await?;
            cluster.stop().await;
        }
        Ok(())
    })
}

/// Resolves when it is time to remove everything.
async fn over(at_eof: bool) -> std::io::Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let _reader = at_eof.then(|| {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(ended);
        })
    });
    tokio::select! {
        ended = crate::world::interrupted() => ended,
        _ = end, if at_eof => Ok(()),
    }
}

async fn start(args: &Args, binaries: &Binaries, out: &Path) -> Result<(Cluster, ApiServer, PathBuf)> {
    let slot = Slot::take(fitting()).await?;
    let cluster = Cluster::start(slot, &scenario(args)?, 1, binaries.lab(), out).await?;
    let (api, kubeconfig) = cluster.serve_operators().await?;
    let zdt = daemon_set(&binaries.zdt(), &cluster.kubeconfig)?;
    let namespace = zdt.metadata.namespace.clone().unwrap_or_default();
    cluster.store.create(Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    })?;
    cluster.store.create(zdt)?;
    let all_ready = || {
        let pods = cluster.store.list::<Pod>();
        let of_zdt = |pod: &&Pod| pod.metadata.namespace.as_ref() == Some(&namespace);
        pods.iter().filter(of_zdt).filter(|pod| ready(pod)).count() >= usize::from(args.nodes)
    };
    let started = cluster
        .until("zdt Ready on every node", START_LIMIT, all_ready)
        .await;
    started.with_context(|| format!("the logs are in {}", out.display()))?;
    tracing::info!("zdt is Ready on every node; the logs are in {}", out.display());
    Ok((cluster, api, kubeconfig))
}

/// Nodes and their network, without a workload.
fn scenario(args: &Args) -> Result<Scenario> {
    let text = "{name: up, description: A cluster for operators}";
    let mut scenario = Scenario::parse(Path::new("up"), text)?;
    scenario.topology.nodes = args.nodes;
    scenario.network.rules_delay_ms = args.rules_delay_ms;
    if args.nftables {
        scenario.network.backend = Backend::Nftables;
    }
    Ok(scenario)
}

/// The one of deploy/base, with what a container has of itself: its file, its privileges, its way to the API.
fn daemon_set(zdt: &Path, kubeconfig: &Path) -> Result<DaemonSet> {
    let mut set = privileges::manifest()?;
    let pod = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    let Some([container]) = pod.map(|pod| pod.containers.as_mut_slice()) else {
        bail!("deploy/base/daemonset.yaml has not one container");
    };
    let mut command = privileges::as_in_the_manifest(&[zdt, kubeconfig])?;
    command.push(zdt.display().to_string());
    container.command = Some(command);
    // In a cluster the service account's token leads there.
    container.env.get_or_insert_default().push(EnvVar {
        name: "KUBECONFIG".to_owned(),
        value: Some(kubeconfig.display().to_string()),
        ..EnvVar::default()
    });
    Ok(set)
}
