//! A run that others look at from outside: where its daemons listen, and the end that they decide.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Files, cluster::within, scrape};
use crate::node::Node;

/// Whoever looks has so long.
const LIMIT: Duration = Duration::from_mins(5);

/// Says where each node's daemon listens: in which network namespace, and at which address.
pub(super) fn announce<'a>(nodes: impl Iterator<Item = &'a Node>, files: &Files) -> Result<()> {
    let daemons: Vec<_> = nodes
        .map(|node| json!({"node": node.name(), "netns": node.net().netns(), "addr": scrape::addr(node, true).to_string()}))
        .collect();
    let path = files.daemons();
    // Whole or not at all: somebody waits for it.
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, format!("{}\n", json!(daemons)))?;
    std::fs::rename(&unfinished, &path).with_context(|| format!("cannot write {}", path.display()))
}

/// Waits for the file `release`.
pub(super) async fn until_released(files: &Files) -> Result<()> {
    let wait = async {
        while !files.release().exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the file `release`", LIMIT, wait).await
}
