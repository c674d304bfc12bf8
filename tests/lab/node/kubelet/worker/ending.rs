//! The end of a pod: containers, sandbox, network, cgroup, object, in the measured order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    super::{grace_s, probe, status::Stage, stop},
    Event, Worker,
};
use crate::{
    api::store::begin_deletion,
    node::{memory, runc::Process},
};

impl Worker {
    /// Stops all containers in parallel; readiness probes go on, the others end
    /// (pkg/kubelet/prober/prober_manager.go, StopLivenessAndStartup). Returns when the last one was dead.
    pub(super) async fn stop_all(&mut self, since: Instant) -> Instant {
        let reported = since + self.node.draw(|t, random| t.terminating_reported_ms.draw(random));
        let grace = grace_s(&self.latest.borrow().pod);
        let (dead, told) = watch::channel(BTreeSet::new());
        let mut stops = JoinSet::new();
        for index in 0..self.containers.len() {
            let Some(mut ending) = self.ending(index, since, grace, None) else {
                dead.send_modify(|dead| dead.extend([index]));
                continue;
            };
            ending.turn = self.turn(index, &told);
            let dead = dead.clone();
            stops.spawn(async move {
                stop::stop(ending).await;
                dead.send_modify(|dead| dead.extend([index]));
            });
        }
        // Restart timers and the waits of liveness kills are void now; exits are read from the processes.
        for index in 0..self.containers.len() {
            self.only_readiness(index);
        }
        let mut due = Some(reported);
        while !stops.is_empty() {
            tokio::select! {
                _ = stops.join_next() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.report(Stage::Running);
                }
                Some(Event::Probed { container, id, kind: probe::Kind::Readiness, ok }) = self.received.recv() => {
                    self.on_probe(container, &id, probe::Kind::Readiness, ok);
                    due = due.or(self.report_at.take());
                }
            }
        }
        let dead = Instant::now();
        if let Some(due) = due {
            // This report was made before the exit was noticed: the container still runs in it.
            sleep_until(due).await;
            self.report(Stage::Running);
        }
        for c in &mut self.containers {
            c.probes.abort_all();
            if let (None, Some(exit)) = (c.ended, c.process.as_ref().and_then(Process::exit)) {
                c.note_end(exit);
            }
        }
        dead
    }

    /// A sidecar ends after the containers proper, and after the sidecars that were started after it.
    fn turn(&self, index: usize, dead: &watch::Receiver<BTreeSet<usize>>) -> Option<stop::Turn> {
        let me = self.containers.get(index).filter(|c| c.sidecar)?;
        let others = self.containers.iter().enumerate();
        Some(stop::Turn {
            after: others
                .filter(|(other, c)| c.sidecar != me.sidecar || *other > index)
                .map(|(other, _)| other)
                .collect(),
            dead: dead.clone(),
        })
    }

    fn only_readiness(&mut self, index: usize) {
        let Some(c) = self.containers.get_mut(index) else {
            return;
        };
        if c.spec.liveness_probe.is_none() && c.spec.startup_probe.is_none() {
            return;
        }
        // The readiness probe's period starts anew: the set holds all of a container's probes.
        c.probes.abort_all();
        let (liveness, startup) = (c.spec.liveness_probe.take(), c.spec.startup_probe.take());
        self.start_probes(index);
        if let Some(c) = self.containers.get_mut(index) {
            (c.spec.liveness_probe, c.spec.startup_probe) = (liveness, startup);
        }
    }

    /// Kills the pause process and takes the network away; reports the terminal phase meanwhile.
    pub(super) async fn terminate_sandbox(&mut self, dead: Instant) {
        let (pause, network, reported) = self.node.draw(|t, random| {
            (
                t.pause_killed_ms.draw(random),
                t.network_gone_ms.draw(random),
                t.terminal_reported_ms.draw(random),
            )
        });
        sleep_until(dead + pause).await;
        if let Some(process) = self.pause.take() {
            stop::send(&self.node, &process, Signal::SIGKILL).await;
            process.wait().await;
        }
        sleep_until(dead + pause + network).await;
        if let Some(mut network) = self.network.take() {
            if !network.is_host() {
                self.node.forget_pod(network.netns());
            }
            let node = Arc::clone(&self.node);
            // The veth first: that is when the address is gone.
            let detached = tokio::task::spawn_blocking(move || node.net().detach(&mut network)).await;
            if let Ok(Err(error)) = detached {
                tracing::warn!(%error, "a pod's network was not removed cleanly");
            }
        }
        let mut mounts = vec![self.node.cgroup_mount().to_owned()];
        if self.containers.iter().any(|c| c.memory.is_some())
            && let Ok(controller) = memory::Controller::find(self.node.cgroup_mount())
            && controller.mount() != self.node.cgroup_mount()
        {
            mounts.push(controller.mount().to_owned());
        }
        for mount in mounts {
            let cgroup = mount.join(&self.cgroup);
            let removed = tokio::task::spawn_blocking(move || crate::net::remove_cgroup(&cgroup)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "a pod's cgroup was not removed");
            }
        }
        sleep_until(dead + reported).await;
        self.report(Stage::Terminal);
    }

    /// The second deletion, with grace 0, and the object's end.
    pub(super) async fn finish(&mut self, dead: Instant) {
        let (reported, removed) = self
            .node
            .draw(|t, random| (t.terminal_reported_ms.least_ms, t.removed_ms.draw(random)));
        sleep_until(dead + Duration::from_secs_f64(reported / 1e3) + removed).await;
        if self.latest.borrow().gone {
            return;
        }
        let (namespace, name) = (self.namespace().to_owned(), self.name().to_owned());
        let ended = begin_deletion(&self.store, &namespace, &name, Some(0))
            .and_then(|_| self.store.remove::<Pod>(&namespace, &name));
        if let Err(error) = ended {
            tracing::debug!(%error, "the pod object was gone already");
        }
    }
}
