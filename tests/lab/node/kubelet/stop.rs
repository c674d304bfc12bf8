//! Ends one container: preStop, its turn, the stop signal, the grace period, SIGKILL.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{Latest, grace_s, hook, probe::Kind, recorder::Recorder};
use crate::node::{Node, runc::Process};

/// A container that is to end, and why.
pub(super) struct Ending {
    pub node: Arc<Node>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub process: Process,
    pub netns: String,
    pub pod_ip: IpAddr,
    pub cgroup: PathBuf,
    pub memory: Option<PathBuf>,
    pub recorder: Recorder,
    /// The probe that failed; none: the pod is being deleted.
    pub probe: Option<Kind>,
    /// From when the grace period counts.
    pub since: Instant,
    pub grace: Duration,
    pub latest: watch::Receiver<Latest>,
    pub turn: Option<Turn>,
}

/// A native sidecar's place in the order of a pod's end: after the containers with these numbers
/// (kuberuntime_termination_order.go).
pub(super) struct Turn {
    pub after: BTreeSet<usize>,
    pub dead: watch::Receiver<BTreeSet<usize>>,
}

/// Stops a container within its grace (pkg/kubelet/kuberuntime/kuberuntime_container.go, killContainer; the delays are
/// measured). A later deletion with a shorter grace shortens the wait.
pub(super) async fn stop(mut ending: Ending) {
    let (term_delay, least) = ending
        .node
        .draw(|t, random| (t.sigterm_ms.draw(random), t.grace_after_pre_stop_ms.draw(random)));
    ending.recorder.killing(&ending.container.name, ending.probe);
    let lifecycle = ending.container.lifecycle.clone().unwrap_or_default();
    let mut left = ending.grace;
    let mut overran = false;
    let mut wait = term_delay.saturating_sub(ending.since.elapsed());
    if let Some(pre_stop) = lifecycle.pre_stop.filter(|_| !left.is_zero()) {
        // The kubelet's own work is before and after the hook.
        sleep(wait / 2).await;
        wait /= 2;
        let cost;
        (cost, overran) = self::pre_stop(&ending, hook::run(&pre_stop, &ending)).await;
        left = left.saturating_sub(cost);
    }
    if let Some(turn) = &mut ending.turn {
        left = left.saturating_sub(whole_seconds(turn.wait(left).await));
    }
    // However long that took, and whatever the deletion said, the app gets this much.
    left = left.max(least);
    sleep(wait).await;
    let signal = lifecycle.stop_signal.and_then(|name| name.parse().ok());
    send(&ending.node, &ending.process, signal.unwrap_or(Signal::SIGTERM)).await;
    let mut until = Instant::now() + left;
    loop {
        tokio::select! {
            ended = timeout_at(until, ending.process.wait()) => {
                if ended.is_err() {
                    send(&ending.node, &ending.process, Signal::SIGKILL).await;
                    ending.process.wait().await;
                }
                if overran {
                    // The hook's process died with the container's.
                    ending.recorder.failed_pre_stop(&ending.container.name);
                }
                return;
            }
            Ok(()) = ending.latest.changed() => {
                let shorter = u64::try_from(grace_s(&ending.latest.borrow().pod)).unwrap_or(0);
                let shorter = Duration::from_secs(shorter);
                if shorter < ending.grace {
                    until = until.min(Instant::now() + shorter.max(least));
                }
            }
        }
    }
}

/// Waits for the hook, the grace's end or the container's own, and tells how much of the grace that cost, and whether the
/// hook goes on.
async fn pre_stop(ending: &Ending, hook: impl Future<Output = Result<(), String>>) -> (Duration, bool) {
    let began = Instant::now();
    let name = &ending.container.name;
    let overran = tokio::select! {
        done = timeout(ending.grace, hook) => match done {
            Ok(Ok(())) => false,
            Ok(Err(error)) => {
                tracing::info!(container = name, %error, "preStop failed");
                ending.recorder.failed_pre_stop(name);
                false
            }
            Err(_) => true,
        },
        // A crash in it is no reason to wait on.
        _ = ending.process.wait() => false,
    };
    (whole_seconds(began.elapsed()), overran)
}

/// The kubelet counts a grace period in whole seconds, cut off (executePreStopHook, waitForTurn).
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

impl Turn {
    /// Waits until it is this container's turn, at most `limit`; returns how long it was.
    async fn wait(&mut self, limit: Duration) -> Duration {
        let began = Instant::now();
        let turn = self.dead.wait_for(|dead| self.after.is_subset(dead));
        // Out of time is a turn too.
        let _ = timeout(limit, turn).await;
        began.elapsed()
    }
}

pub(super) async fn send(node: &Node, process: &Process, signal: Signal) {
    if let Err(error) = node.runc().kill(process, signal).await {
        tracing::warn!(%error, %signal, pid = process.pid(), "cannot signal a container");
    }
}
