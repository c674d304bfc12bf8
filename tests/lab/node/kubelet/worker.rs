//! The life of one pod on its node: sandbox, containers, probes, restarts.

mod ending;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Latest,
    container::{self, Running, container_id},
    grace_s, probe, status,
    status::Stage,
    stop,
};
use crate::{
    api::store::Store,
    net::PodNet,
    node::{
        Node,
        cgroup::Qos,
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
    cgroup: PathBuf,
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
        let cgroup = node
            .cgroup_mount()
            .join(node.settings().cgroup_driver.pod(Qos::of(&pod), &uid));
        let specs = pod
            .spec
            .as_ref()
            .map(|s| s.containers.clone())
            .unwrap_or_default();
        let (events, received) = mpsc::channel(64);
        Self {
            node,
            store,
            latest,
            pod,
            containers: specs.into_iter().map(Running::new).collect(),
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
                self.terminate_sandbox(Instant::now()).await;
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
        let network = tokio::task::spawn_blocking(move || node.net().attach()).await??;
        self.ips = network.ips.all();
        let netns = network.netns().to_owned();
        self.network = Some(network);
        self.node.note_pod(self.namespace(), self.name(), Some(&netns));
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
        self.node.run().record_cgroup(&self.cgroup)?;
        let path = self.node.settings().cgroup_driver.container(&self.cgroup, id);
        // Another run's cleanup may remove the empty levels above in between: once more, then.
        std::fs::create_dir_all(&path).or_else(|_| std::fs::create_dir_all(&path))?;
        Ok(path)
    }

    async fn start_container(&mut self, index: usize) -> anyhow::Result<()> {
        let id = self.node.random(container_id);
        let cgroup = self.make_cgroup_of(&id)?;
        let (Some(network), Some(c)) = (&self.network, self.containers.get_mut(index)) else {
            return Ok(());
        };
        let spec = container::spec(&self.node, &self.pod, &c.spec, network.netns(), &self.ips, cgroup);
        let process = self.node.runc().create(spec).await?;
        if let Some((exit, at)) = c.ended.take() {
            c.before = Some((std::mem::take(&mut c.id), exit, at));
            c.restarts += 1;
        }
        c.id.clone_from(&id);
        c.process = Some(process.clone());
        c.started_at = Some(Timestamp::now());
        c.started = c.spec.startup_probe.is_none();
        c.ready = c.started && c.spec.readiness_probe.is_none();
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
        self.start_probes(index);
        Ok(())
    }

    /// The startup probe alone first; the others once it has succeeded.
    fn start_probes(&mut self, index: usize) {
        let Some(c) = self.containers.get_mut(index) else {
            return;
        };
        let all = [
            (probe::Kind::Startup, &c.spec.startup_probe, !c.started),
            (probe::Kind::Readiness, &c.spec.readiness_probe, c.started),
            (
                probe::Kind::Liveness,
                &c.spec.liveness_probe,
                c.started && self.latest.borrow().deleting.is_none(),
            ),
        ];
        for (kind, probe, _) in all.into_iter().filter(|(.., now)| *now) {
            let (Some(probe), Some(pod_ip)) = (probe.clone(), self.ips.first().copied()) else {
                continue;
            };
            let target = probe::Target {
                container: index,
                id: c.id.clone(),
                node_netns: self.node.net().netns().to_owned(),
                pod_ip,
                events: self.events.clone(),
            };
            c.probes.spawn(probe::repeat(target, c.spec.clone(), probe, kind));
        }
    }

    /// Runs the pod until it is deleted. True: all containers ended for good.
    async fn live(&mut self) -> bool {
        let mut latest = self.latest.clone();
        loop {
            let due = self.report_at;
            tokio::select! {
                () = async { drop(latest.wait_for(|l| l.deleting.is_some()).await) } => return false,
                Some(event) = self.received.recv() => {
                    if self.on_event(event).await {
                        return true;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.report_at = None;
                    self.report(Stage::Running);
                }
            }
        }
    }

    /// True: all containers ended for good.
    async fn on_event(&mut self, event: Event) -> bool {
        match event {
            Event::Probed {
                container,
                id,
                kind,
                ok,
            } => self.on_probe(container, &id, kind, ok),
            Event::Exited { container, id, exit } => {
                let Some(c) = self.containers.get_mut(container).filter(|c| c.id == id) else {
                    return false;
                };
                c.probes.abort_all();
                c.ended = Some((exit, Timestamp::now()));
                let noticed = self.node.draw(|t, random| t.exit_noticed_ms.draw(random));
                self.later(noticed, Event::Noticed);
                if self.restarts(exit) {
                    let back_off = self.back_off(container);
                    self.later(noticed + back_off, Event::Restart { container });
                }
            }
            Event::Noticed => {
                let over = |c: &Running| c.ended.is_some_and(|(exit, _)| !self.restarts(exit));
                if self.containers.iter().all(over) {
                    return true;
                }
                self.report(Stage::Running);
            }
            Event::Restart { container } => {
                if let Err(error) = self.start_container(container).await {
                    tracing::error!(pod = self.name(), %error, "cannot restart a container");
                }
                self.report(Stage::Running);
            }
        }
        false
    }

    fn on_probe(&mut self, index: usize, id: &str, kind: probe::Kind, ok: bool) {
        let delay = self.node.draw(|t, random| t.ready_reported_ms.draw(random));
        let Some(c) = self.containers.get_mut(index).filter(|c| c.id == id && c.runs()) else {
            return;
        };
        match kind {
            probe::Kind::Readiness => c.ready = ok,
            probe::Kind::Startup if ok => {
                c.started = true;
                c.ready = c.spec.readiness_probe.is_none();
                self.start_probes(index);
            }
            probe::Kind::Liveness if ok => return,
            probe::Kind::Startup | probe::Kind::Liveness => {
                tracing::info!(pod = self.name(), ?kind, "probe failed: the container is killed");
                return self.kill_unhealthy(index);
            }
        }
        self.report_at.get_or_insert(Instant::now() + delay);
    }

    /// A liveness or startup probe failed: as a deletion of the container alone.
    fn kill_unhealthy(&mut self, index: usize) {
        let Some(c) = self.containers.get(index) else {
            return;
        };
        let Some(process) = c.process.clone() else { return };
        let grace = Duration::from_secs(u64::try_from(grace_s(&self.pod)).unwrap_or(0));
        self.tasks.spawn(stop::stop(
            Arc::clone(&self.node),
            c.spec.clone(),
            process,
            Instant::now(),
            grace,
            self.latest.clone(),
        ));
    }

    /// restartPolicy.
    fn restarts(&self, exit: Exit) -> bool {
        match self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => exit.code != 0,
            _ => true,
        }
    }

    /// None for the first restart, then the initial wait, doubled each time, 300 s at most.
    fn back_off(&self, index: usize) -> Duration {
        let restarts = self.containers.get(index).map_or(0, |c| c.restarts);
        let first = self.node.draw(|t, random| t.crash_back_off_ms.draw(random));
        match u32::try_from(restarts).unwrap_or(0) {
            0 => Duration::ZERO,
            n => first
                .saturating_mul(2u32.saturating_pow(n - 1))
                .min(Duration::from_mins(5)),
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            sleep(delay).await;
            let _ = events.send(event).await;
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
