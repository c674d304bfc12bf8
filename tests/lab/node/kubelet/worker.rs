//! The life of one pod on its node: sandbox, containers, probes, restarts.

mod ending;
mod live;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Latest,
    container::{self, Place, Running, container_id},
    probe,
    recorder::Recorder,
    status,
    status::Stage,
};
use crate::{
    api::store::Store,
    net::PodNet,
    node::{
        Node,
        cgroup::Qos,
        memory::{self, Limit},
        policy,
        runc::{Exit, Process},
    },
};

/// What tasks tell their pod's worker.
pub(super) enum Event {
    Exited {
        container: usize,
        id: String,
        exit: Exit,
    },
    /// The first result of a probe, or a changed one.
    Probed {
        container: usize,
        id: String,
        kind: probe::Kind,
        ok: bool,
    },
    /// The time to start a container again has come.
    Restart { container: usize },
    /// The lifecycle of a dead container is noticed only now.
    Noticed,
}

/// One pod.
pub(super) struct Worker {
    node: Arc<Node>,
    store: Store,
    latest: watch::Receiver<Latest>,
    pod: Arc<Pod>,
    containers: Vec<Running>,
    network: Option<PodNet>,
    ips: Vec<IpAddr>,
    pause: Option<Process>,
    /// The pod's cgroup, below a mount.
    cgroup: PathBuf,
    recorder: Recorder,
    events: mpsc::Sender<Event>,
    received: mpsc::Receiver<Event>,
    /// Stops of liveness failures, and restart timers.
    tasks: JoinSet<()>,
    /// When the next status report is due.
    report_at: Option<Instant>,
}

impl Worker {
    pub(super) fn new(node: Arc<Node>, store: Store, latest: watch::Receiver<Latest>) -> Self {
        let pod = Arc::clone(&latest.borrow().pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let cgroup = node.settings().cgroup_driver.pod(Qos::of(&pod), &uid);
        let recorder = Recorder::new(store.clone(), node.name(), &pod);
        let (events, received) = mpsc::channel(64);
        Self {
            node,
            store,
            latest,
            containers: container::all(&pod),
            pod,
            recorder,
            network: None,
            ips: Vec::new(),
            pause: None,
            cgroup,
            events,
            received,
            tasks: JoinSet::new(),
            report_at: None,
        }
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn deleting(&self) -> bool {
        self.latest.borrow().deleting.is_some()
    }

    pub(super) async fn run(mut self) {
        if !self.deleting() {
            if let Err(error) = self.start().await {
                tracing::error!(pod = self.name(), %error, "cannot start a pod");
                // As with a failed image or CNI ADD: the pod stays Pending until somebody deletes it.
            }
            if self.live().await {
                // Sidecars have no reason to go on (kuberuntime_manager.go, computePodActions).
                let dead = self.stop_all(Instant::now()).await;
                self.terminate_sandbox(dead).await;
                let _ = self.latest.wait_for(|l| l.deleting.is_some()).await;
                return self.finish(Instant::now()).await;
            }
        }
        let since = self.latest.borrow().deleting.unwrap_or_else(Instant::now);
        let dead = self.stop_all(since).await;
        self.terminate_sandbox(dead).await;
        self.finish(dead).await;
    }

    /// Sandbox, network, containers.
    async fn start(&mut self) -> anyhow::Result<()> {
        let seen = Instant::now();
        let (sandbox, started) = self.node.draw(|t, random| {
            (
                t.sandbox_ready_ms.draw(random),
                t.containers_started_ms.draw(random),
            )
        });
        self.report(Stage::Admitted);
        let node = Arc::clone(&self.node);
        let on_host = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let attach = move || -> anyhow::Result<PodNet> {
            if on_host {
                return Ok(node.net().host_pod());
            }
            let network = node.net().attach()?;
            let late_ms = node.settings().policy_delay_ms;
            if late_ms > 0 {
                policy::drop_at_first(&node, &network.ips, late_ms)?;
            }
            Ok(network)
        };
        let network = tokio::task::spawn_blocking(attach).await??;
        self.ips = network.ips.all();
        let netns = network.netns().to_owned();
        self.network = Some(network);
        self.node.note_pod(self.namespace(), self.name(), &netns);
        let cgroup = self.make_cgroup()?;
        let spec = container::pause(&self.node, &self.pod, &netns, cgroup);
        self.pause = Some(self.node.runc().create(spec).await?);
        sleep_until(seen + sandbox).await;
        self.report(Stage::Sandboxed);
        sleep_until(seen + sandbox + started).await;
        for index in 0..self.containers.len() {
            if self.deleting() {
                return Ok(());
            }
            self.start_container(index).await?;
            self.sidecar_started(index).await;
        }
        self.report(Stage::Running);
        Ok(())
    }

    /// A new cgroup for a container (or the sandbox), recorded for cleanup.
    fn make_cgroup(&self) -> anyhow::Result<PathBuf> {
        let id = self.node.random(container_id);
        self.make_cgroup_of(&id)
    }

    fn make_cgroup_of(&self, id: &str) -> anyhow::Result<PathBuf> {
        let mount = self.node.cgroup_mount();
        self.node.run().record_cgroup(&mount.join(&self.cgroup))?;
        let path = mount.join(self.container_cgroup(id));
        // Another run's cleanup may remove the empty levels above in between: once more, then.
        std::fs::create_dir_all(&path).or_else(|_| std::fs::create_dir_all(&path))?;
        Ok(path)
    }

    /// Below a mount.
    fn container_cgroup(&self, id: &str) -> PathBuf {
        self.node.settings().cgroup_driver.container(&self.cgroup, id)
    }

    fn limit_memory(&self, id: &str, bytes: u64) -> anyhow::Result<Limit> {
        let controller = memory::Controller::find(self.node.cgroup_mount())?;
        self.node
            .run()
            .record_cgroup(&controller.mount().join(&self.cgroup))?;
        let below = self.container_cgroup(id);
        let limit = || controller.limit(&below, bytes);
        Ok(limit().or_else(|_| limit())?)
    }

    async fn start_container(&mut self, index: usize) -> anyhow::Result<()> {
        let id = self.node.random(container_id);
        let cgroup = self.make_cgroup_of(&id)?;
        let Some(bytes) = self
            .containers
            .get(index)
            .map(|c| container::memory_limit(&c.spec))
        else {
            return Ok(());
        };
        let memory = bytes.map(|bytes| self.limit_memory(&id, bytes)).transpose()?;
        let (Some(network), Some(c)) = (&self.network, self.containers.get_mut(index)) else {
            return Ok(());
        };
        let place = Place {
            netns: network.netns().to_owned(),
            cgroup,
            memory: memory.as_ref().map(|limit| limit.dir.clone()),
        };
        let spec = container::spec(&self.node, &self.pod, &c.spec, &self.ips, place);
        let process = self.node.runc().create(spec).await?;
        self.recorder.started(&c.spec.name);
        c.memory = memory;
        c.killed = false;
        if let Some(ended) = c.ended.take() {
            c.before = Some((std::mem::take(&mut c.id), ended));
            c.restarts += 1;
        }
        if !c.sidecar {
            let key = (
                self.pod.metadata.namespace.clone(),
                self.pod.metadata.name.clone(),
            );
            self.node.note_process(key, &process);
        }
        c.id.clone_from(&id);
        c.process = Some(process.clone());
        c.started_at = Some(Timestamp::now());
        c.started = c.spec.startup_probe.is_none();
        c.ready = c.started && c.spec.readiness_probe.is_none();
        self.watch_exit(index, id, process);
        self.start_probes(index);
        Ok(())
    }

    fn watch_exit(&mut self, index: usize, id: String, process: Process) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let exit = process.wait().await;
            let _ = events
                .send(Event::Exited {
                    container: index,
                    id,
                    exit,
                })
                .await;
        });
    }

    /// Writes the status, unless the object is another pod's by now.
    fn report(&self, stage: Stage) {
        if self.latest.borrow().gone {
            return;
        }
        let uid = self.pod.metadata.uid.clone();
        let written = self.store.update::<Pod>(self.namespace(), self.name(), |pod| {
            if pod.metadata.uid == uid {
                pod.status = Some(status::build(&self.node, pod, stage, &self.containers, &self.ips));
            }
        });
        if let Err(error) = written {
            tracing::debug!(%error, "status not reported");
        }
    }
}
