//! Asks the daemons of a cluster what they have said.

use anyhow::Context as _;

use crate::{cluster, config};

/// The logs of the daemons of a cluster, `since` so many seconds.
pub fn daemons_logs(sources: &config::Sources, since: Option<i64>) -> anyhow::Result<Vec<cluster::PodLog>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let kubeconfig = sources.kubeconfig();
    let logs = cluster::logs(kubeconfig.as_deref(), &sources.zdt_namespace, since);
    Ok(runtime.block_on(logs)?)
}
