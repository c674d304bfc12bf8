//! The daemon under test: the very `zdt` binary, started in the node's namespace, stopped as the kubelet stops it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::{Files, cluster::within, privileges, scrape};
use crate::node::{Node, runc::Process};

/// Attaching the hooks and listing over loopback takes half a second here; a loaded machine may take longer.
const START_LIMIT: Duration = Duration::from_mins(2);
/// What is left to judge at SIGTERM is little.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running daemon.
pub(super) struct Daemon {
    node: Arc<Node>,
    process: Process,
    files: Files,
    addr: SocketAddr,
}

impl Daemon {
    /// Starts it; `files` are its own.
    pub(super) async fn start(
        node: &Arc<Node>,
        zdt: &Path,
        kubeconfig: &Path,
        files: &Files,
        addr: SocketAddr,
    ) -> Result<Self> {
        let files = files.clone();
        let path = |p: PathBuf| p.display().to_string();
        // The shell only separates the two outputs; exec makes the daemon take its place.
        let script = "out=$1; shift; exec \"$@\" >\"$out\"";
        let argv = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).into_iter();
        let privileges = privileges::as_in_the_manifest(&[zdt, &files.record()])?;
        let argv = argv.chain([path(files.verdicts())]).chain(privileges);
        let argv = argv.chain([zdt.display().to_string()]);
        let listen = ["run", "-o", "json", "--events", "--listen"].map(str::to_owned);
        let argv = argv
            .chain(listen)
            .chain([addr.to_string(), "--record".to_owned()]);
        let argv = argv.chain([
            path(files.record()),
            "--kubeconfig".to_owned(),
            kubeconfig.display().to_string(),
        ]);
        let argv = argv.chain(["--node".to_owned(), node.name().to_owned()]);
        let log = files.daemon_log();
        let process = node
            .spawn("", argv.collect(), Vec::new(), &log)
            .await
            .with_context(|| format!("cannot start {}", zdt.display()))?;
        Ok(Self {
            node: Arc::clone(node),
            process,
            files,
            addr,
        })
    }

    /// Waits until it says that it is ready.
    pub(super) async fn ready(&self) -> Result<()> {
        within("the daemon's line `ready:`", START_LIMIT, self.until_ready())
            .await
            .and_then(|ready| ready)
            .with_context(|| format!("the daemon's log is {}", self.files.daemon_log().display()))
    }

    /// Where it runs, as which process, and where it listens there.
    pub(super) fn whereabouts(&self) -> (Arc<Node>, u32, SocketAddr) {
        (Arc::clone(&self.node), self.process.pid(), self.addr)
    }

    /// Keeps what its /metrics says of the rollout.
    pub(super) async fn scrape(&self) -> Result<()> {
        std::fs::write(
            self.files.metrics(),
            scrape::summed_up(&self.node, self.addr).await?,
        )?;
        Ok(())
    }

    /// Its standard error is a file: there is nothing to wait on but its growth.
    async fn until_ready(&self) -> Result<()> {
        loop {
            let log = std::fs::read_to_string(self.files.daemon_log()).unwrap_or_default();
            if log.lines().any(|l| l.starts_with("ready:")) {
                return Ok(());
            }
            if let Some(exit) = self.process.exit() {
                bail!(
                    "the daemon ended with {} before it was ready: {}",
                    exit.code,
                    last_lines(&log)
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM, and its end. An exit status other than 0 is an error.
    pub(super) async fn stop(self) -> Result<()> {
        self.node.runc().kill(&self.process, Signal::SIGTERM).await?;
        let ended = within("the daemon's end after SIGTERM", STOP_LIMIT, self.process.wait()).await;
        let Ok(exit) = ended else {
            self.node.runc().kill(&self.process, Signal::SIGKILL).await?;
            bail!(
                "the daemon did not end within {} s of SIGTERM",
                STOP_LIMIT.as_secs()
            );
        };
        if exit.code != 0 {
            let log = std::fs::read_to_string(self.files.daemon_log()).unwrap_or_default();
            bail!("the daemon ended with {}: {}", exit.code, last_lines(&log));
        }
        Ok(())
    }
}

impl Daemon {
    pub(super) async fn signal(&self, signal: Signal) -> Result<()> {
        Ok(self.node.runc().kill(&self.process, signal).await?)
    }

    /// kill -9, and its end.
    pub(super) async fn kill(self) -> Result<()> {
        self.signal(Signal::SIGKILL).await?;
        within("the daemon's end after SIGKILL", STOP_LIMIT, self.process.wait()).await?;
        Ok(())
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// `zdt replay RECORD -o FORMAT`.
pub fn replay(zdt: &Path, record: &Path, format: &str) -> Result<String> {
    let output = Command::new(zdt)
        .arg("replay")
        .arg(record)
        .args(["-o", format])
        .output()
        .with_context(|| format!("cannot start {}", zdt.display()))?;
    if !output.status.success() {
        bail!(
            "`zdt replay {}` failed: {}",
            record.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the daemon counted as lost: the `loss` inputs of its record.
pub(super) fn events_lost(record: &str) -> u64 {
    let inputs = record
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    inputs
        .filter(|input| input.get("what").and_then(|w| w.as_str()) == Some("loss"))
        .filter_map(|input| input.get("count").and_then(serde_json::Value::as_u64))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_added_up_from_the_record() {
        let record = concat!(
            r#"{"format":"zdt-record","version":1,"zdt":"0.1.0"}"#,
            "\n",
            r#"{"at":1,"what":"loss","source":"ring","count":3}"#,
            "\n",
            r#"{"at":2,"what":"tick"}"#,
            "\n",
            r#"{"at":3,"what":"loss","source":"watch","count":4}"#,
            "\n",
        );
        assert_eq!(events_lost(record), 7);
    }
}
