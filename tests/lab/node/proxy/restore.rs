//! The only caller of `iptables-restore` and `nft`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Backend, Family};
use crate::net::enter_on_exec;

/// Why rules were not written.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("no {0} in /usr/sbin or /sbin: install iptables (and nftables)")]
    Missing(&'static str),
    #[error("cannot run {tool}: {source}")]
    Start { tool: &'static str, source: io::Error },
    #[error("{tool} refused kube-proxy's rules: {stderr}")]
    Refused { tool: &'static str, stderr: String },
}

/// Links named `iptables-restore` and `ip6tables-restore`, so that the kernel's notifications name the process
/// `iptables-restor`, as on a node where the backend is the distribution's alternative.
#[derive(Debug)]
pub(super) struct Tools {
    dir: PathBuf,
    backend: Backend,
}

impl Tools {
    pub(super) fn link(dir: &Path, backend: Backend) -> Result<Self, RestoreError> {
        for family in [Family::V4, Family::V6] {
            let tool = tool(backend, family);
            let start = |source| RestoreError::Start { tool, source };
            let found = ["/usr/sbin", "/sbin"]
                .iter()
                .map(|d| Path::new(d).join(tool))
                .find(|p| p.exists());
            let found = found.ok_or(RestoreError::Missing(tool))?;
            let link = dir.join(name(family));
            fs::create_dir_all(dir).map_err(start)?;
            match symlink(found, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(start(error)),
                _ => {}
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            backend,
        })
    }

    /// Applies `text` in a namespace, in one transaction per table, as kube-proxy does.
    pub(super) fn restore(&self, netns: &str, family: Family, text: &str) -> Result<(), RestoreError> {
        let tool = tool(self.backend, family);
        let mut command = Command::new(self.dir.join(name(family)));
        // argv of pkg/util/iptables/iptables.go, restoreInternal.
        command.args(["-w", "5", "--noflush", "--counters"]);
        command.env("XTABLES_LOCKFILE", self.dir.join("xtables.lock"));
        feed(tool, command, netns, text)
    }

    /// Applies `text` in a namespace, in one transaction.
    #[expect(clippy::unused_self, reason = "whoever writes rules has the tools")]
    pub(super) fn nft(&self, netns: &str, text: &str) -> Result<(), RestoreError> {
        let mut command = Command::new("nft");
        // argv of sigs.k8s.io/knftables, Run.
        command.args(["-f", "-"]);
        feed("nft", command, netns, text)
    }
}

fn feed(tool: &'static str, mut command: Command, netns: &str, text: &str) -> Result<(), RestoreError> {
    let start = |source| RestoreError::Start { tool, source };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    enter_on_exec(&mut command, netns).map_err(start)?;
    let mut child = command.spawn().map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that refuses the rules closes its input: its status tells.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    Err(RestoreError::Refused {
        tool,
        stderr: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

fn tool(backend: Backend, family: Family) -> &'static str {
    match (backend, family) {
        // In nftables mode the kubelet's few rules are still iptables'.
        (Backend::Nft | Backend::Nftables, Family::V4) => "iptables-nft-restore",
        (Backend::Nft | Backend::Nftables, Family::V6) => "ip6tables-nft-restore",
        (Backend::Legacy, Family::V4) => "iptables-legacy-restore",
        (Backend::Legacy, Family::V6) => "ip6tables-legacy-restore",
    }
}
