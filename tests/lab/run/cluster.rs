//! The cluster of one run: nodes, an API server, controllers, and waiting for what they do.

use std::{
    future::Future,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::actions::{self, Operator};
use super::ingress::{self, Config, Ingress, PROXY};
use super::nodes;
use super::objects::{self, APP_PORT, NAMESPACE, NODE_PORT, PROXY_NODE_PORT, WEB};
use crate::{
    api::{self, ApiServer, Store, operate::Powers},
    clock::monotonic_ns,
    controllers,
    net::{Slot, enter_on_exec, in_netns},
    node::{Node, runc::Process},
    scenario::{ApiFault, Backend, Family, Proxy, Scenario, Via},
    times::{Times, What},
    world::World,
};

/// The port that kubeadm gives the API server. Bound in the first node's namespace.
const API_PORT: u16 = 6443;
/// What may be slow beyond its own time: an emulated machine that shares its CPUs needs more than 30 s for a few pods.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// The longest that a daemon waits between two attempts (zdt-daemon/src/cluster/reach.rs), and a list.
const RECOVERY: Duration = Duration::from_secs(8);

/// A cluster. Dropping it ends and removes everything.
pub(super) struct Cluster {
    pub(super) store: Store,
    /// In the order of their numbers.
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) kubeconfig: PathBuf,
    pub(super) scenario: Scenario,
    api: Arc<ApiServer>,
    /// When the last fault of it is over.
    api_back: Option<Instant>,
    times: Times,
    controllers: JoinSet<()>,
    world: World,
    /// The run's folder.
    out: PathBuf,
}

impl Cluster {
    /// Starts everything but the workload.
    pub(super) async fn start(
        slot: Slot,
        scenario: &Scenario,
        seed: u64,
        lab: PathBuf,
        out: &Path,
    ) -> Result<Self> {
        let store = Store::new();
        let settings = (1..=scenario.topology.nodes)
            .map(|number| nodes::settings(scenario, seed, number, &lab, out))
            .collect();
        let times = Times::open(out).context("cannot write times.jsonl")?;
        let mut controllers = JoinSet::new();
        controllers.spawn(super::times::follow(store.clone(), times.clone()));
        let world = World::start_nodes(slot, store.clone(), settings)?;
        let node = Arc::clone(world.node()?);
        let addr = SocketAddr::new(node.net().ip().into(), API_PORT);
        let listener = in_netns(node.net().netns(), || TcpListener::bind(addr))
            .with_context(|| format!("the API server cannot listen on {addr} in the node's namespace"))?;
        let api = api::serve(store.clone(), listener).await?;
        let kubeconfig = out.join("kubeconfig");
        std::fs::write(&kubeconfig, api::kubeconfig(api.addr()))
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let names = nodes::pods_on(scenario);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        controllers.spawn(controllers::run(
            store.clone(),
            controllers::Settings::new(seed, &names),
        ));
        Ok(Self {
            store,
            nodes: world.nodes().to_vec(),
            kubeconfig,
            scenario: scenario.clone(),
            api: Arc::new(api),
            api_back: None,
            times,
            controllers,
            world,
            out: out.to_owned(),
        })
    }

    /// The API server fails for a time, which the run does not wait for.
    pub(super) async fn fail_api(&mut self, how: &ApiFault) -> Result<()> {
        let what = What::ApiFails {
            fault: how.fault.name().to_owned(),
            for_ms: how.for_ms,
        };
        self.times.write(monotonic_ns(), what)?;
        self.api.fail(how.fault, how.to).await?;
        let (api, lasts) = (Arc::clone(&self.api), Duration::from_millis(how.for_ms));
        self.api_back = self.api_back.max(Some(Instant::now() + lasts));
        self.controllers.spawn(async move {
            tokio::time::sleep(lasts).await;
            if let Err(error) = api.heal() {
                tracing::error!(%error, "the API server does not come back");
            }
        });
        Ok(())
    }

    /// Waits until the API server is there again, and the daemons have had the time to find that out.
    pub(super) async fn recovered(&self) {
        if let Some(back) = self.api_back {
            tokio::time::sleep_until(back + RECOVERY).await;
        }
    }

    /// Keeps what was done to a daemon.
    pub(super) fn note(&self, what: What) -> Result<u64> {
        let at = monotonic_ns();
        self.times.write(at, what)?;
        Ok(at)
    }

    /// Ends everything and waits until it is removed.
    pub(super) async fn stop(mut self) {
        self.controllers.shutdown().await;
        drop(self.nodes);
        self.world.stop().await;
    }

    /// The API for operators, on a port of this machine's loopback.
    pub(super) async fn serve_operators(&self) -> Result<(ApiServer, PathBuf)> {
        let powers = Powers::new(self.world.addresses(), self.out.clone()).context("no random token")?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the operators' API")?;
        let text = api::operator_kubeconfig(listener.local_addr()?, powers.token());
        let kubeconfig = self.out.join("kubeconfig-operator");
        write_for_owner(&kubeconfig, &text)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let api = api::serve_operator(self.store.clone(), listener, powers).await?;
        Ok((api, kubeconfig))
    }

    /// Creates Deployment and Service, and waits until every pod serves and the node routes to it.
    pub(super) async fn deploy(&mut self, operator: &mut Operator) -> Result<()> {
        self.store
            .create::<Service>(objects::service(&self.scenario, self.world.addresses()))?;
        operator.create(&self.store)?;
        let start = operator.slowest_start() + PATIENCE;
        self.until("pods Ready", start, || operator.all_ready(&self.store))
            .await?;
        if let Some(proxy) = self.scenario.proxy.clone() {
            self.deploy_proxy(operator, proxy, start).await?;
        }
        self.rules_programmed().await
    }

    /// In front of a workload that is there: its first list is complete.
    async fn deploy_proxy(&mut self, operator: &mut Operator, proxy: Proxy, start: Duration) -> Result<()> {
        let addresses = self.world.addresses();
        let vips = objects::backends(&self.scenario, addresses);
        for (name, addr) in vips.iter().filter(|(name, _)| *name != WEB) {
            self.store.create(objects::backend_service(name, *addr))?;
        }
        self.store
            .create(objects::proxy_service(&self.scenario, addresses))?;
        let config = Config {
            proxy,
            dir: self.out.clone(),
            v6: self.scenario.network.family == Family::V6,
            vips,
        };
        // A proxy that starts while its first list is still growing would begin with a part of it.
        let mut slices = self.store.watch::<EndpointSlice>();
        let complete = || ingress::endpoints(&self.store, WEB, config.v6).len() >= self.ready_pods().len();
        let wait = async {
            while !complete() {
                if slices.next().await.is_none() {
                    return;
                }
            }
        };
        within("the endpoints of the pods", start, wait).await?;
        let (ingress, controller) = Ingress::start(&self.store, &self.nodes, config.clone())?;
        self.controllers.spawn(controller.run());
        operator.create_proxy(&self.store, &config, ingress)?;
        self.until("the proxy Ready", start, || operator.all_ready(&self.store))
            .await
    }

    /// Pods of `web` that are Ready and stay, in the order of names.
    pub(super) fn ready_pods(&self) -> Vec<Pod> {
        self.ready(WEB)
    }

    fn ready(&self, workload: &str) -> Vec<Pod> {
        let mut pods = actions::pods(&self.store, workload);
        pods.retain(|p| p.metadata.deletion_timestamp.is_none() && controllers::pods::ready(p));
        pods
    }

    /// Address of a pod in the scenario's family.
    pub(super) fn address(&self, pod: &Pod) -> Option<IpAddr> {
        let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
        let v6 = self.scenario.network.family == Family::V6;
        ips.iter()
            .filter_map(|ip| ip.ip.parse::<IpAddr>().ok())
            .find(|ip| ip.is_ipv6() == v6)
    }

    /// Waits until every node's rules translate to each Ready pod: what the rules are is asked of the kernel.
    async fn rules_programmed(&self) -> Result<()> {
        let targets: Vec<String> = self
            .ready_pods()
            .iter()
            .chain(&self.ready(PROXY))
            .filter_map(|p| self.address(p))
            .map(|ip| self.translation_to(ip))
            .collect();
        let limit = Duration::from_millis(
            2 * self.scenario.network.min_sync_period_ms + 2 * self.scenario.network.rules_delay_ms + 60_000,
        );
        let wait = async {
            loop {
                let rules = self
                    .nodes
                    .iter()
                    .map(|n| self.nat_rules(n))
                    .collect::<Result<Vec<_>>>()?;
                if rules
                    .iter()
                    .all(|rules| targets.iter().all(|t| rules.contains(t)))
                {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(limit, wait).await.with_context(|| {
            format!(
                "after {limit:?} a node's rules still lack one of: {}",
                targets.join(", ")
            )
        })?
    }

    /// How a rule writes it.
    fn translation_to(&self, ip: IpAddr) -> String {
        match self.scenario.network.backend {
            Backend::Nftables => format!("{ip} . {APP_PORT}"),
            _ => format!("--to-destination {}", SocketAddr::new(ip, APP_PORT)),
        }
    }

    fn nat_rules(&self, node: &Node) -> Result<String> {
        let nat: &[&str] = &["-t", "nat"];
        let v6 = self.scenario.network.family == Family::V6;
        let (program, args) = match (self.scenario.network.backend, v6) {
            (Backend::IptablesNft, false) => ("iptables-nft-save", nat),
            (Backend::IptablesNft, true) => ("ip6tables-nft-save", nat),
            (Backend::IptablesLegacy, false) => ("iptables-legacy-save", nat),
            (Backend::IptablesLegacy, true) => ("ip6tables-legacy-save", nat),
            // The table is there once the first sync has ended.
            (Backend::Nftables, _) => ("nft", ["list", "ruleset"].as_slice()),
        };
        let mut save = Command::new(program);
        save.args(args);
        enter_on_exec(&mut save, node.net().netns())?;
        let output = save
            .output()
            .with_context(|| format!("cannot run {program}: cargo xtask setup installs it"))?;
        if !output.status.success() {
            bail!(
                "{program} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the client dials.
    pub(super) fn target(&self) -> Result<SocketAddr> {
        let family = self.scenario.network.family;
        match self.scenario.client.via {
            Via::ClusterIp if self.scenario.proxy.is_some() => {
                Ok(objects::proxy_addr(self.world.addresses(), family))
            }
            Via::ClusterIp => Ok(objects::service_addr(self.world.addresses(), family)),
            Via::NodePort => {
                let v6 = family == Family::V6;
                let at = usize::from(self.scenario.client.dial_node).saturating_sub(1);
                let node = self.nodes.get(at).context("no such node to dial")?;
                let ip = node.ips().into_iter().find(|ip| ip.is_ipv6() == v6);
                Ok(SocketAddr::new(
                    ip.context("the node has no address of this family")?,
                    if self.scenario.proxy.is_some() {
                        PROXY_NODE_PORT
                    } else {
                        NODE_PORT
                    },
                ))
            }
            Via::PodIp => {
                let ip = self.ready_pods().first().and_then(|p| self.address(p));
                Ok(SocketAddr::new(ip.context("no pod to dial")?, APP_PORT))
            }
        }
    }

    /// Phase of a pod.
    pub(super) fn phase(&self, name: &str) -> Option<String> {
        self.store.get::<Pod>(NAMESPACE, name)?.status?.phase
    }

    /// Starts a load client beyond the nodes' router.
    pub(super) async fn spawn_outside(&self, args: Vec<String>, log: &Path) -> Result<Process> {
        let node = self.world.node()?;
        let argv = [node.settings().exe.display().to_string(), "client".to_owned()];
        let argv = argv.into_iter().chain(args).collect();
        let started = node.spawn(self.world.outside(), argv, Vec::new(), log).await;
        started.context("cannot start the load client outside of the cluster")
    }

    /// Waits for `done`, which is asked again after each change of a pod.
    pub(super) async fn until(&self, what: &str, limit: Duration, done: impl Fn() -> bool) -> Result<()> {
        let mut pods = self.store.watch::<Pod>();
        let wait = async {
            while !done() {
                if pods.next().await.is_none() {
                    return;
                }
            }
        };
        within(what, limit, wait).await?;
        Ok(())
    }

    /// Waits until no pod terminates and all are Ready that will ever be.
    pub(super) async fn settled(&self, operator: &Operator) -> Result<()> {
        let limit = operator.longest_grace() + PATIENCE;
        // Asked again without a change too: a pod that does not get Ready is given up after a time.
        let wait = async {
            while !operator.settled(&self.store) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within("end of the rollout", limit, wait).await
    }
}

/// A file that nobody else may read: it has a token.
fn write_for_owner(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

pub(super) async fn within<T>(what: &str, limit: Duration, wait: impl Future<Output = T>) -> Result<T> {
    timeout(limit, wait)
        .await
        .with_context(|| format!("waited {} s for: {what}", limit.as_secs()))
}
