//! The proxy of a run: the Deployment `ingress/proxy`, and the controller that keeps its upstreams current.
//!
//! The controller does what ingress controllers do: it watches the endpoint slices of the proxy's backend, and some time
//! after a change (`lag_ms`) writes the list of ready endpoints and has the proxy read it again.

mod config;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{core::v1::Container, discovery::v1::EndpointSlice};
use tokio::{sync::watch, time::sleep};

pub(super) use config::Config;

use super::{
    actions,
    objects::{APP_PORT, NAMESPACE, WEB},
};
use crate::{
    api::Store,
    clock::monotonic_of_wall,
    node::Node,
    scenario::{Dials, ProxyKind},
    score::{
        Claim,
        proxied::{self, Retried},
    },
    times::{Line, What},
    truth::Request,
};

/// The proxy's namespace and name.
pub(super) const INGRESS: &str = "ingress";
pub(super) const PROXY: &str = "proxy";

/// What the operator tells the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    /// The workload that everything is sent to.
    backend: String,
    /// How often it was told to reload, whatever changed.
    reloads: u64,
}

/// A handle on the controller.
#[derive(Debug)]
pub(super) struct Ingress(watch::Sender<Told>);

impl Ingress {
    /// Writes the first configuration. The controller keeps it current until the handle is gone.
    pub(super) fn start(store: &Store, nodes: &[Arc<Node>], config: Config) -> Result<(Self, Controller)> {
        let told = Told {
            backend: WEB.to_owned(),
            reloads: 0,
        };
        let (handle, told) = watch::channel(told);
        let mut controller = Controller {
            store: store.clone(),
            nodes: nodes.to_vec(),
            config,
            told,
            written: BTreeSet::new(),
        };
        controller.written = controller.upstreams(WEB);
        controller.config.write(&controller.written)?;
        Ok((Self(handle), controller))
    }

    pub(super) fn reload(&self) {
        self.0.send_modify(|told| told.reloads += 1);
    }

    pub(super) fn switch(&self, backend: &str) {
        self.0.send_modify(|told| backend.clone_into(&mut told.backend));
    }
}

/// Runs until the handle is gone.
pub(super) struct Controller {
    store: Store,
    nodes: Vec<Arc<Node>>,
    config: Config,
    told: watch::Receiver<Told>,
    /// The list as the proxies have it.
    written: BTreeSet<SocketAddr>,
}

impl Controller {
    pub(super) async fn run(mut self) {
        // What it finds existing is looked at again: then the list is as written, or another.
        let mut slices = self.store.watch::<EndpointSlice>();
        let mut reloads = 0;
        loop {
            let told = self.told.borrow_and_update().clone();
            let wanted = self.upstreams(&told.backend);
            if wanted != self.written || told.reloads != reloads {
                sleep(Duration::from_millis(self.config.proxy.lag_ms)).await;
                let now = self.upstreams(&told.backend);
                if let Err(error) = self.bring(&now).await {
                    return tracing::error!("the ingress controller ends: {error:#}");
                }
                (self.written, reloads) = (now, told.reloads);
                continue;
            }
            tokio::select! {
                change = slices.next() => if change.is_none() { return },
                told = self.told.changed() => if told.is_err() { return },
            }
        }
    }

    /// Writes the list and has every proxy read it.
    async fn bring(&self, upstreams: &BTreeSet<SocketAddr>) -> Result<()> {
        self.config.write(upstreams)?;
        tracing::debug!("the proxy's upstreams are {upstreams:?}");
        for pod in actions::pods(&self.store, PROXY) {
            let name = pod.metadata.name.unwrap_or_default();
            let running = pod.status.and_then(|s| s.phase).as_deref() == Some("Running");
            if pod.metadata.deletion_timestamp.is_some() || !running {
                continue;
            }
            let command = self.config.reload(&name);
            for node in &self.nodes {
                let Some(process) = node.exec(INGRESS, &name, command.clone()).await? else {
                    continue;
                };
                let exit = process.wait().await;
                if exit.code != 0 {
                    bail!("{command:?} in {name} ended with {}; see its log", exit.code);
                }
            }
        }
        Ok(())
    }

    /// What the proxy is to dial.
    fn upstreams(&self, backend: &str) -> BTreeSet<SocketAddr> {
        if let (Dials::ClusterIp, Some(vip)) = (self.config.proxy.dials, self.config.vip(backend)) {
            return [vip].into();
        }
        endpoints(&self.store, backend, self.config.v6)
    }
}

/// What a workload's slices say is ready.
pub(super) fn endpoints(store: &Store, backend: &str, v6: bool) -> BTreeSet<SocketAddr> {
    let of_backend = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        slice.metadata.namespace.as_deref() == Some(NAMESPACE)
            && labels.and_then(|l| l.get("kubernetes.io/service-name").map(String::as_str)) == Some(backend)
    };
    let mut all = BTreeSet::new();
    for slice in store.list::<EndpointSlice>().iter().filter(|s| of_backend(s)) {
        // As ingress-nginx: what is not ready gets nothing.
        for endpoint in slice.endpoints.iter().filter(|e| {
            let conditions = e.conditions.as_ref();
            conditions.and_then(|c| c.ready) != Some(false)
        }) {
            let ips = endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok());
            all.extend(
                ips.filter(|ip| ip.is_ipv6() == v6)
                    .map(|ip| SocketAddr::new(ip, APP_PORT)),
            );
        }
    }
    all
}

/// The proxy's container instead of the test server's.
pub(super) fn container(container: &mut Container, config: &Config) {
    PROXY.clone_into(&mut container.name);
    container.image = Some(
        match config.proxy.kind {
            ProxyKind::Nginx => "nginx",
            ProxyKind::Haproxy => "haproxy",
        }
        .to_owned(),
    );
    container.command = Some(config.command());
    container.args = None;
}

/// Joins the claims about the proxy's connections with the requests behind them.
pub(super) fn attribute(
    dir: &Path,
    times: &[Line],
    claims: &mut [Claim],
    truth: &[Request],
) -> Result<Retried> {
    let of_proxy = |line: &Line| match &line.what {
        What::PodReady { pod, ips } if pod.starts_with("ingress/") => ips.clone(),
        _ => Vec::new(),
    };
    let proxies: BTreeSet<IpAddr> = times.iter().flat_map(of_proxy).collect();
    if proxies.is_empty() {
        return Ok(Retried::default());
    }
    let mut attempts = Vec::new();
    for log in logs(dir)? {
        let text = std::fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let read = proxied::attempts(&text, monotonic_of_wall);
        attempts.extend(read.with_context(|| format!("{} has a line that is none", log.display()))?);
    }
    Ok(proxied::attribute(claims, truth, &attempts, &proxies))
}

/// The access logs of all proxies that there have been.
fn logs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let log = entry?.path().join("access.log");
        if log.exists() {
            logs.push(log);
        }
    }
    logs.sort();
    Ok(logs)
}
