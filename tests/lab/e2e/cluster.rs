//! The cluster as its API shows it: nodes, zdt's pods, namespaces, logs.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, LogParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::{Instant, sleep};

use super::{Args, objects};
use crate::controllers::pods::ready;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// As deploy/base/daemonset.yaml has it.
const ZDT: &str = "app.kubernetes.io/name=zdt";
const ZDT_CONTAINER: &str = "zdt";

pub(super) struct Cluster {
    pub(super) client: Client,
    /// The nodes that take pods and have a zdt, in the order of names.
    pub(super) nodes: Vec<String>,
    /// Of the scenario that is under way.
    pub(super) namespace: String,
    zdt_namespace: String,
}

impl Cluster {
    /// An error: the cluster cannot be reached, or a node that takes pods has no zdt that is Ready.
    pub(super) async fn connect(args: &Args) -> Result<Self> {
        let file = &args.kubeconfig;
        let kubeconfig =
            Kubeconfig::read_from(file).with_context(|| format!("no kubeconfig in {}", file.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config)?;
        let all = Api::<Node>::all(client.clone())
            .list(&ListParams::default())
            .await;
        let all = all.with_context(|| format!("the API server at {url} does not list its nodes"))?;
        let mut nodes: Vec<String> = all
            .items
            .into_iter()
            .filter(takes_pods)
            .filter_map(|n| n.metadata.name)
            .collect();
        nodes.sort();
        let cluster = Self {
            client,
            nodes,
            namespace: args
                .namespace
                .clone()
                .unwrap_or_else(|| format!("zdt-e2e-{:06x}", fastrand::u32(..1 << 24))),
            zdt_namespace: args.zdt_namespace.clone(),
        };
        let zdt = cluster.zdt().await?;
        let has_ready = |node: &&String| zdt.iter().any(|one| one.node == **node && one.ready);
        if let Some(without) = cluster.nodes.iter().find(|node| !has_ready(node)) {
            bail!(
                "no zdt that is Ready on node {without} (namespace {}, label {ZDT}): \
                 kubectl apply -k deploy/base, and kubectl -n {} rollout status daemonset/zdt",
                args.zdt_namespace,
                args.zdt_namespace
            );
        }
        if cluster.nodes.is_empty() {
            bail!("no node of the cluster at {url} takes pods");
        }
        tracing::info!(
            "{url}: {} nodes with zdt: {}",
            cluster.nodes.len(),
            cluster.nodes.join(", ")
        );
        Ok(cluster)
    }

    /// zdt's pods.
    pub(super) async fn zdt(&self) -> Result<Vec<Zdt>> {
        let of_zdt = ListParams::default().labels(ZDT);
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.zdt_namespace);
        let pods = pods.list(&of_zdt).await.with_context(|| {
            format!(
                "the pods of zdt in namespace {} cannot be listed",
                self.zdt_namespace
            )
        })?;
        Ok(pods.items.iter().filter_map(Zdt::of).collect())
    }

    /// What stands in the log of one of zdt's pods, or its last line alone. All of it is asked for, and not what came since a
    /// time: times would be those of another clock.
    pub(super) async fn zdt_log(&self, zdt: &Zdt, last_line: bool) -> Result<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.zdt_namespace);
        let of = LogParams {
            container: Some(ZDT_CONTAINER.to_owned()),
            tail_lines: last_line.then_some(1),
            ..LogParams::default()
        };
        let log = pods.logs(&zdt.pod, &of).await;
        log.with_context(|| format!("the log of {} on node {} cannot be read", zdt.pod, zdt.node))
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn create_namespace(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let wanted = objects::namespace(&self.namespace);
        let made = namespaces.create(&PostParams::default(), &wanted).await;
        made.map(drop)
            .with_context(|| format!("cannot create namespace {}", self.namespace))
    }

    /// Waits until it is gone, and everything in it.
    pub(super) async fn remove_namespace(&self, limit: Duration) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let name = &self.namespace;
        match namespaces.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            other => other.with_context(|| format!("namespace {name} stays"))?,
        };
        let gone = async || Ok(namespaces.get_opt(name).await?.is_none().then_some(()));
        until("the end of the namespace", limit, gone)
            .await
            .with_context(|| format!("namespace {name} stays"))
    }

    /// A workload's pods, in the order of names.
    pub(super) async fn pods(&self, workload: &str) -> Result<Vec<Pod>> {
        let of = ListParams::default().labels(&format!("app={workload}"));
        let mut pods = self.api::<Pod>().list(&of).await?.items;
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }
}

/// A pod of zdt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zdt {
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) ready: bool,
    /// Another number later: what it knew is lost.
    pub(super) restarts: i32,
}

impl Zdt {
    fn of(pod: &Pod) -> Option<Self> {
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
        Some(Self {
            pod: pod.metadata.name.clone()?,
            node: pod.spec.as_ref()?.node_name.clone()?,
            ready: ready(pod) && pod.metadata.deletion_timestamp.is_none(),
            restarts: statuses.into_iter().flatten().map(|s| s.restart_count).sum(),
        })
    }
}

/// Ready, and no taint keeps a pod without tolerations away.
fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten();
    let tainted = taints.into_iter().any(|t| t.effect != "PreferNoSchedule");
    ready && !tainted && spec.and_then(|s| s.unschedulable) != Some(true)
}

/// Questions in a row that may fail: an API server that is away for 15 s and more has ended.
const MOST_FAILED: u32 = 60;

/// Asks again and again until there is something; a question that fails is asked again, too.
pub(super) async fn until<T>(
    what: &str,
    limit: Duration,
    question: impl AsyncFn() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    let mut failed = 0;
    loop {
        match question().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => failed = 0,
            Err(error) => {
                failed += 1;
                if failed >= MOST_FAILED || error.downcast_ref::<Hopeless>().is_some() {
                    return Err(error.context(format!("waited for: {what}")));
                }
            }
        }
        if Instant::now() >= end {
            bail!("waited {} s for: {what}", limit.as_secs());
        }
        sleep(PAUSE).await;
    }
}

/// No use to ask again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Hopeless(pub(super) String);

/// The same future, and an end after `limit`.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| bail!("not done after {} s", limit.as_secs()))
}
