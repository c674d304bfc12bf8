//! The only caller of iproute2.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use super::RunError;

/// Why the network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot start `{tool}`: {source}; install iproute2")]
    Start { tool: &'static str, source: io::Error },
    #[error("in namespace {netns}: `ip -batch` failed: {stderr} (input was: {input})")]
    Batch {
        netns: String,
        stderr: String,
        input: String,
    },
    #[error("namespace {netns}: {what}: {source}")]
    Netns {
        netns: String,
        what: &'static str,
        source: io::Error,
    },
    #[error("no free address in {subnet}: fewer pods at a time, or another subnet")]
    Exhausted { subnet: String },
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs `ip` commands, one a line, inside namespace `netns`; the first that fails ends it.
pub fn ip_batch(netns: &str, commands: &str) -> Result<(), NetError> {
    ip_in(&["-n", netns], netns, commands)
}

/// The same in the lab's own namespace.
pub(super) fn ip_here(commands: &str) -> Result<(), NetError> {
    ip_in(&[], "(the lab's own)", commands)
}

fn ip_in(args: &[&str], netns: &str, commands: &str) -> Result<(), NetError> {
    let start = |source| NetError::Start { tool: "ip", source };
    let mut child = Command::new("ip")
        .args(args)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // `ip` that dies early shows in its exit status, not here.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NetError::Batch {
        netns: netns.to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        input: commands.trim().replace('\n', "; "),
    })
}
