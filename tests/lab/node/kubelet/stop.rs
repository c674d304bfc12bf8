//! Ends one container: preStop, SIGTERM, the grace period, SIGKILL.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Latest, grace_s};
use crate::node::{Node, runc::Process};

/// Stops `process` within `grace`, counted from `since` (pkg/kubelet/kuberuntime/kuberuntime_container.go, killContainer;
/// the order and the delays are measured). A later deletion with a shorter grace shortens the wait.
pub(super) async fn stop(
    node: Arc<Node>,
    container: Container,
    process: Process,
    since: Instant,
    grace: Duration,
    mut latest: watch::Receiver<Latest>,
) {
    let (term_delay, least) =
        node.draw(|t, random| (t.sigterm_ms.draw(random), t.grace_after_pre_stop_ms.draw(random)));
    let pre_stop = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.pre_stop.as_ref())
        .and_then(|h| h.sleep.as_ref());
    let mut left = grace;
    if let Some(sleeps) = pre_stop.filter(|_| !grace.is_zero()) {
        let wanted = Duration::from_secs(u64::try_from(sleeps.seconds).unwrap_or(0));
        // The hook ends with the container too: a crash in it is no reason to wait on.
        let hook = async {
            tokio::select! {
                () = sleep_until(since + term_delay / 2 + wanted.min(grace)) => {}
                _ = process.wait() => {}
            }
        };
        hook.await;
        left = grace.saturating_sub(wanted);
    }
    // However long preStop took, and whatever the deletion said, the app gets this much.
    left = left.max(least);
    let passed = since.elapsed();
    sleep(term_delay.saturating_sub(if pre_stop.is_some() {
        term_delay / 2
    } else {
        passed
    }))
    .await;
    send(&node, &process, Signal::SIGTERM).await;
    let mut until = Instant::now() + left;
    loop {
        tokio::select! {
            ended = timeout_at(until, process.wait()) => {
                if ended.is_err() {
                    send(&node, &process, Signal::SIGKILL).await;
                    process.wait().await;
                }
                return;
            }
            Ok(()) = latest.changed() => {
                let shorter = u64::try_from(grace_s(&latest.borrow().pod)).unwrap_or(0);
                let shorter = Duration::from_secs(shorter);
                if shorter < grace {
                    until = until.min(Instant::now() + shorter.max(least));
                }
            }
        }
    }
}

pub(super) async fn send(node: &Node, process: &Process, signal: Signal) {
    if let Err(error) = node.runc().kill(process, signal).await {
        tracing::warn!(%error, %signal, pid = process.pid(), "cannot signal a container");
    }
}
