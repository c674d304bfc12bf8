//! A pod while it lives: probes, exits, restarts.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{container::Running, grace_s, probe, status::Stage, stop},
    Event, Worker,
};
use crate::node::runc::Exit;

impl Worker {
    /// The startup probe alone first; the others once it has succeeded.
    pub(super) fn start_probes(&mut self, index: usize) {
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
                recorder: self.recorder.clone(),
            };
            c.probes.spawn(probe::repeat(target, c.spec.clone(), probe, kind));
        }
    }

    /// Runs the pod until it is deleted. True: all containers ended for good.
    pub(super) async fn live(&mut self) -> bool {
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
                c.note_end(exit);
                // Who killed it need not find out.
                let noticed = if c.killed {
                    Duration::ZERO
                } else {
                    self.node.draw(|t, random| t.exit_noticed_ms.draw(random))
                };
                self.later(noticed, Event::Noticed);
                if self.restarts(container, exit) {
                    let back_off = self.back_off(container);
                    self.later(noticed + back_off, Event::Restart { container });
                }
            }
            Event::Noticed => {
                let over = |(index, c): (usize, &Running)| {
                    c.sidecar || c.ended.is_some_and(|ended| !self.restarts(index, ended.exit))
                };
                if self.containers.iter().enumerate().all(over) {
                    return true;
                }
                for c in self
                    .containers
                    .iter()
                    .filter(|c| c.ended.is_some() && c.restarts > 0)
                {
                    self.recorder.back_off(&c.spec.name);
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

    pub(super) fn on_probe(&mut self, index: usize, id: &str, kind: probe::Kind, ok: bool) {
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
                return self.kill_unhealthy(index, kind);
            }
        }
        self.report_at.get_or_insert(Instant::now() + delay);
    }

    /// A liveness or startup probe failed: as a deletion of the container alone.
    fn kill_unhealthy(&mut self, index: usize, kind: probe::Kind) {
        let Some(c) = self.containers.get_mut(index) else {
            return;
        };
        c.killed = true;
        // One kill: the probes of this run are over (prober worker.go, onHold).
        c.probes.abort_all();
        let probe = match kind {
            probe::Kind::Startup => &c.spec.startup_probe,
            _ => &c.spec.liveness_probe,
        };
        // kuberuntime_container.go, setTerminationGracePeriod.
        let own = probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
        let grace = own.unwrap_or_else(|| grace_s(&self.pod));
        if let Some(ending) = self.ending(index, Instant::now(), grace, Some(kind)) {
            self.tasks.spawn(stop::stop(ending));
        }
    }

    /// How the container `index` is stopped; none when it does not run.
    pub(super) fn ending(
        &self,
        index: usize,
        since: Instant,
        grace_s: i64,
        probe: Option<probe::Kind>,
    ) -> Option<stop::Ending> {
        let c = self.containers.get(index).filter(|c| c.runs())?;
        Some(stop::Ending {
            node: Arc::clone(&self.node),
            pod: Arc::clone(&self.pod),
            container: c.spec.clone(),
            process: c.process.clone()?,
            netns: self.network.as_ref()?.netns().to_owned(),
            pod_ip: self.ips.first().copied()?,
            cgroup: self.node.cgroup_mount().join(self.container_cgroup(&c.id)),
            memory: c.memory.as_ref().map(|limit| limit.dir.clone()),
            recorder: self.recorder.clone(),
            probe,
            since,
            grace: Duration::from_secs(u64::try_from(grace_s).unwrap_or(0)),
            latest: self.latest.clone(),
            turn: None,
        })
    }

    /// Waits until a sidecar counts as started: the next container's start waits for that (KEP-753).
    pub(super) async fn sidecar_started(&mut self, index: usize) {
        let mut latest = self.latest.clone();
        while self
            .containers
            .get(index)
            .is_some_and(|c| c.sidecar && !c.started)
        {
            tokio::select! {
                () = async { drop(latest.wait_for(|l| l.deleting.is_some()).await) } => return,
                Some(event) = self.received.recv() => drop(self.on_event(event).await),
            }
        }
    }

    /// restartPolicy; a native sidecar's own is Always.
    fn restarts(&self, index: usize, exit: Exit) -> bool {
        let sidecar = self.containers.get(index).is_some_and(|c| c.sidecar);
        match self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            _ if sidecar => true,
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
}
