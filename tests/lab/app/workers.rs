//! A master that holds the listener and serves through child processes, as nginx, gunicorn and php-fpm do.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};

use super::{Args, socket};

/// gunicorn's arbiter looks after its workers each second, nginx at SIGCHLD; this is nearer to nginx.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// Runs `--workers` children on one listener. A signal to stop is passed on; the listener closes then.
pub(super) async fn supervise(args: &Args) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let listener = socket::bind(args.listen, args.backlog, args.defer_accept_s)
        .with_context(|| format!("cannot listen on {}: is the port taken?", args.listen))?;
    let mut pids = Vec::new();
    let mut workers = JoinSet::new();
    for _ in 0..args.workers {
        start(&listener, &mut pids, &mut workers)?;
    }
    let told = loop {
        tokio::select! {
            _ = term.recv() => break Signal::SIGTERM,
            _ = quit.recv() => break Signal::SIGQUIT,
            Some(ended) = workers.join_next() => {
                let pid = ended?;
                pids.retain(|p| *p != pid);
                tracing::warn!(?pid, "a worker died");
                sleep(RESTART_AFTER).await;
                start(&listener, &mut pids, &mut workers)?;
            }
        }
    };
    drop(listener);
    for pid in pids.into_iter().flatten() {
        // A worker that died meanwhile is none.
        let _ = kill(Pid::from_raw(pid), told);
    }
    while workers.join_next().await.is_some() {}
    Ok(())
}

fn start(
    listener: &std::net::TcpListener,
    pids: &mut Vec<Option<i32>>,
    workers: &mut JoinSet<Option<i32>>,
) -> anyhow::Result<()> {
    let mut child: Child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--inherited")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone()?)))
        .spawn()
        .context("cannot start a worker")?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    pids.push(pid);
    workers.spawn(async move {
        let _ = child.wait().await;
        pid
    });
    Ok(())
}
