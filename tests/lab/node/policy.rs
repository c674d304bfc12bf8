//! A network policy engine that is late: it drops what is for a new pod until its rules for the pod are there, as one does that
//! denies what it does not know yet. Its rules are a table of its own beside kube-proxy's.

use std::{io::Write as _, process::Command};

use anyhow::{Context as _, Result, bail};

use super::Node;
use crate::net::{PodIps, enter_on_exec};

/// Drops new connections that the node forwards to the pod for so long. The kubelet's probes come from the node itself: engines
/// let these pass.
pub(super) fn drop_at_first(node: &Node, ips: &PodIps, ms: u64) -> Result<()> {
    let netns = node.net().netns();
    let v6 = ips
        .v6
        .map(|ip| format!("add element inet podpolicy pending6 {{ {ip} timeout {ms}ms }}\n"));
    let rules = format!(
        "add table inet podpolicy\n\
         add set inet podpolicy pending {{ type ipv4_addr; flags timeout; }}\n\
         add set inet podpolicy pending6 {{ type ipv6_addr; flags timeout; }}\n\
         add chain inet podpolicy forward {{ type filter hook forward priority filter; }}\n\
         flush chain inet podpolicy forward\n\
         add rule inet podpolicy forward ct state established,related accept\n\
         add rule inet podpolicy forward ip daddr @pending drop\n\
         add rule inet podpolicy forward ip6 daddr @pending6 drop\n\
         add element inet podpolicy pending {{ {} timeout {ms}ms }}\n\
         {}",
        ips.v4,
        v6.unwrap_or_default()
    );
    let mut command = Command::new("nft");
    command
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    enter_on_exec(&mut command, netns)?;
    let mut nft = command
        .spawn()
        .context("cannot run nft: cargo xtask setup installs it")?;
    let mut stdin = nft.stdin.take().context("nft has no standard input")?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        bail!("nft failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Whether it still drops what is for some pod.
pub fn drops_something(node: &Node) -> Result<bool> {
    let mut command = Command::new("nft");
    command.args(["list", "table", "inet", "podpolicy"]);
    enter_on_exec(&mut command, node.net().netns())?;
    let output = command
        .output()
        .context("cannot run nft: cargo xtask setup installs it")?;
    // There is no table until the first pod of the node.
    Ok(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("elements = {"))
}
