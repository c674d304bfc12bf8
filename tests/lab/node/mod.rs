//! A node: container runtime, kubelet and kube-proxy.

pub mod cgroup;
mod exhaust;
mod kubelet;
mod memory;
mod policy;
pub mod proxy;
pub mod runc;
pub mod timings;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinSet;

pub use cgroup::CgroupDriver;
pub use exhaust::{empty_conntrack, fill_conntrack, masquerade_ports};
pub use policy::drops_something as policy_drops_something;
pub use proxy::Backend;
pub use timings::{Delay, Timings};

use crate::{
    api::store::Store,
    net::{Lan, NetError, NodeNet, Reuse, Run},
    times::Times,
};
use runc::{ContainerSpec, Pids, Process, Runc};

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From 1; the node's name is `n<number>`.
    pub number: u8,
    pub timings: Timings,
    pub backend: Backend,
    pub cgroup_driver: CgroupDriver,
    pub reuse: Reuse,
    /// kube-proxy removes the UDP entries of endpoints that are gone.
    pub udp_cleanup: bool,
    /// A policy engine drops what is for a new pod for so long; 0: there is none.
    pub policy_delay_ms: u64,
    /// Decides every drawn delay.
    pub seed: u64,
    /// The `zdt-lab` binary, for `pause` and the test server.
    pub exe: PathBuf,
    /// An existing folder for container logs and `times.jsonl`.
    pub out: PathBuf,
}

impl Settings {
    /// Defaults for node 1.
    pub fn new(exe: PathBuf, out: PathBuf) -> Self {
        Self {
            number: 1,
            timings: Timings::default(),
            backend: Backend::Nft,
            cgroup_driver: CgroupDriver::default(),
            reuse: Reuse::default(),
            udp_cleanup: true,
            policy_delay_ms: 0,
            seed: 0,
            exe,
            out,
        }
    }
}

/// A node that runs: its kubelet and kube-proxy end with [`Node::stop`], everything it made goes with the run.
pub struct Node {
    name: String,
    settings: Settings,
    run: Arc<Run>,
    net: NodeNet,
    times: Times,
    runc: Runc,
    cgroup_mount: PathBuf,
    random: Mutex<fastrand::Rng>,
    /// Namespace/name of the pods that have a network, and their namespaces.
    pods: Mutex<BTreeMap<(String, String), String>>,
    /// The main process of each pod's last started container.
    processes: Mutex<BTreeMap<(String, String), Process>>,
    tasks: Mutex<JoinSet<()>>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("cannot start the container runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("cannot write times.jsonl: {0}")]
    Times(#[source] io::Error),
    #[error("no cgroup v2: {0}")]
    Cgroup(#[source] io::Error),
    #[error("the world is stopped")]
    Stopped,
}

impl Node {
    /// Makes the node's network and starts its kubelet and kube-proxy on the pods, services and slices of `store`.
    /// Must run inside a tokio runtime.
    pub fn start(
        run: &Arc<Run>,
        lan: &Lan,
        store: &Store,
        settings: Settings,
    ) -> Result<Arc<Self>, NodeError> {
        let node = Arc::new(Self {
            name: format!("n{}", settings.number),
            net: NodeNet::create(run, lan, settings.number, settings.reuse)?,
            times: Times::open(&settings.out).map_err(NodeError::Times)?,
            runc: Runc::start().map_err(NodeError::Runtime)?,
            cgroup_mount: cgroup::mount().map_err(NodeError::Cgroup)?,
            random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            run: Arc::clone(run),
            settings,
            pods: Mutex::new(BTreeMap::new()),
            processes: Mutex::new(BTreeMap::new()),
            tasks: Mutex::new(JoinSet::new()),
        });
        let mut tasks = node.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(kubelet::run(Arc::clone(&node), store.clone()));
        tasks.spawn(proxy::run(Arc::clone(&node), store.clone()));
        drop(tasks);
        Ok(node)
    }

    /// Stops kubelet and kube-proxy. Containers go on until the run ends.
    pub fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }

    /// Stops kubelet and kube-proxy, and waits until they no longer make anything.
    pub async fn stopped(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    /// `n<number>`
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn net(&self) -> &NodeNet {
        &self.net
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts a program of the node or of a namespace (a daemon, an outside client), not in a container. It dies with
    /// the lab; `netns` empty: the node's own.
    pub async fn spawn(
        &self,
        netns: &str,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        log: &Path,
    ) -> io::Result<Process> {
        let netns = if netns.is_empty() { self.net.netns() } else { netns };
        let spec = ContainerSpec {
            argv,
            env,
            netns: netns.to_owned(),
            cgroup: None,
            memory: None,
            hostname: None,
            pids: Pids::Shared,
            log: log.to_owned(),
        };
        let process = self.runc.create(spec).await?;
        self.run.record_pid(process.pid()).map_err(io::Error::other)?;
        Ok(process)
    }

    /// The network namespace of a pod of this node, while it has one.
    pub fn pod_netns(&self, namespace: &str, name: &str) -> Option<String> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn note_pod(&self, namespace: &str, name: &str, netns: &str) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.insert((namespace.to_owned(), name.to_owned()), netns.to_owned());
    }

    /// A force-deleted StatefulSet pod's successor may have its name by now: only this namespace is forgotten.
    fn forget_pod(&self, netns: &str) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, of| of != netns);
    }

    fn note_process(&self, (namespace, name): (Option<String>, Option<String>), process: &Process) {
        let mut all = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.unwrap_or_default(), name.unwrap_or_default());
        all.insert(key, process.clone());
    }

    /// Signals a pod's container, as `crictl stop` on the node does. False: it has none.
    pub async fn signal(
        &self,
        namespace: &str,
        name: &str,
        signal: nix::sys::signal::Signal,
    ) -> io::Result<bool> {
        let key = (namespace.to_owned(), name.to_owned());
        let process = {
            let all = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&key).cloned()
        };
        match process {
            Some(process) => self.runc.kill(&process, signal).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Runs a command in a pod's container, as `kubectl exec` does. None: the pod has none on this node.
    pub async fn exec(&self, namespace: &str, name: &str, argv: Vec<String>) -> io::Result<Option<Process>> {
        let key = (namespace.to_owned(), name.to_owned());
        let process = {
            let all = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&key).cloned()
        };
        let (Some(process), Some(netns)) = (process, self.pod_netns(namespace, name)) else {
            return Ok(None);
        };
        let spec = ContainerSpec {
            argv,
            env: vec![(
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            )],
            netns,
            cgroup: Some(cgroup::of(&self.cgroup_mount, process.pid())?),
            memory: None,
            hostname: None,
            pids: Pids::Of(process.pid()),
            log: self.settings.out.join(format!("{name}.exec.log")),
        };
        self.runc.create(spec).await.map(Some)
    }

    /// Sends signals and starts containers.
    pub fn runc(&self) -> &Runc {
        &self.runc
    }

    /// Every address of the node's own namespace, for NodePorts and `status.hostIPs`.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.net.ips()
    }

    fn times(&self) -> &Times {
        &self.times
    }

    fn run(&self) -> &Run {
        &self.run
    }

    fn cgroup_mount(&self) -> &Path {
        &self.cgroup_mount
    }

    /// Draws delays with the node's seeded generator.
    fn draw<T>(&self, f: impl FnOnce(&Timings, &mut fastrand::Rng) -> T) -> T {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        f(&self.settings.timings, &mut random)
    }

    fn random<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        self.draw(|_, random| f(random))
    }
}

/// The sandbox's process: exists until a signal (SIGINT and SIGTERM end it, as build/pause/linux/pause.c).
pub fn pause() -> anyhow::Result<()> {
    use nix::sys::{
        prctl::set_name,
        signal::{SigSet, Signal},
    };
    set_name(c"pause")?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    signals.wait()?;
    Ok(())
}
