//! Follows what the nodes' conntrack translates: the truth about clients behind a masquerade.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{
    Files,
    cluster::{Cluster, within},
};
use crate::node::Node;

const LIMIT: Duration = Duration::from_secs(10);

/// Starts `conntrack -E` on each node, until the run ends. Only where it is needed: entries cost a little more while
/// somebody listens (net/netfilter/nf_conntrack_ecache.c).
pub(super) async fn follow(cluster: &Cluster, files: &Files) -> Result<()> {
    for node in &cluster.nodes {
        let log = files.of(node.net().number()).translations();
        let argv = ["conntrack", "-E", "-e", "NEW", "-p", "tcp"]
            .map(str::to_owned)
            .to_vec();
        let path = ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let process = node
            .spawn("", argv, vec![path], &log)
            .await
            .context("cannot start conntrack: cargo xtask setup installs it")?;
        let listening = async {
            while !listens(node)? {
                if let Some(exit) = process.exit() {
                    bail!(
                        "conntrack -E ended with {}; its log is {}",
                        exit.code,
                        log.display()
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        within("conntrack -E to listen", LIMIT, listening).await??;
    }
    Ok(())
}

/// /proc/net/netlink shows which groups are joined: protocol 12 is netfilter, group 1 is NFNLGRP_CONNTRACK_NEW. Nobody
/// else on a node of the lab joins it.
fn listens(node: &Node) -> Result<bool> {
    let text = crate::net::in_netns(node.net().netns(), || {
        std::fs::read_to_string("/proc/thread-self/net/netlink")
    });
    let text = text.context("cannot read /proc/net/netlink")?;
    Ok(text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let groups = words.get(3).and_then(|g| u32::from_str_radix(g, 16).ok());
        words.get(1) == Some(&"12") && groups.is_some_and(|g| g & 1 != 0)
    }))
}
