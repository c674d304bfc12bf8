//! The daemons of a run: one on each node at a time, and which came after which.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use nix::sys::signal::Signal;

use super::{Files, cluster::Cluster, daemon::Daemon, samples::Sampling, scrape};
use crate::{
    node::Node,
    scenario::{Ending, Restart},
    times::What,
};

/// What a daemon that is killed has not said yet: it judges 2 s after the end of a flow, with ticks of 0.25 s.
const UNSAID_NS: u64 = 2_500_000_000;

/// One daemon, as far as its outputs are concerned.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub files: Files,
    pub killed: bool,
    /// When the daemon before it ended, and how long before that it had said everything.
    pub before: Option<(u64, u64)>,
}

/// Those that run, and all that ran.
pub(super) struct Lives {
    daemons: Vec<Daemon>,
    held: bool,
    all: Vec<Life>,
}

impl Lives {
    /// One on each node, at the same time, as a DaemonSet's. `held`: others than this node ask them.
    pub(super) async fn start(cluster: &Cluster, zdt: &Path, files: &Files, held: bool) -> Result<Self> {
        let each = cluster.nodes.iter().map(async |node| {
            let files = files.of(node.net().number());
            let daemon =
                Daemon::start(node, zdt, &cluster.kubeconfig, &files, scrape::addr(node, held)).await?;
            daemon.ready().await.map(|()| daemon)
        });
        let daemons = try_join_all(each).await?;
        let all = cluster.nodes.iter().map(|node| Life {
            files: files.of(node.net().number()),
            killed: false,
            before: None,
        });
        Ok(Self {
            all: all.collect(),
            daemons,
            held,
        })
    }

    /// The first node's ends, and the next one starts.
    pub(super) async fn restart(&mut self, cluster: &Cluster, zdt: &Path, how: &Restart) -> Result<()> {
        let node: &Arc<Node> = cluster.nodes.first().context("no node")?;
        let number = node.net().number();
        let mut lives = self.all.iter_mut().filter(|l| l.files.node() == number);
        let last = lives.next_back().context("no daemon on the first node")?;
        let at = cluster.note(What::DaemonEnds {
            node: node.name().to_owned(),
            signal: how.signal.name().to_owned(),
        })?;
        last.killed = how.signal == Ending::Sigkill;
        let files = last.files.next();
        let unsaid_ns = if last.killed { UNSAID_NS } else { 0 };
        let ended = self.daemons.remove(0);
        if last.killed {
            ended.kill().await?;
        } else {
            ended.stop().await?;
        }
        tokio::time::sleep(Duration::from_millis(how.away_ms)).await;
        let daemon = Daemon::start(
            node,
            zdt,
            &cluster.kubeconfig,
            &files,
            scrape::addr(node, self.held),
        )
        .await?;
        daemon.ready().await?;
        cluster.note(What::DaemonReady {
            node: node.name().to_owned(),
        })?;
        self.daemons.insert(0, daemon);
        self.all.push(Life {
            files,
            killed: false,
            before: Some((at, unsaid_ns)),
        });
        Ok(())
    }

    /// The first node's stands still for so long.
    pub(super) async fn pause(&self, for_: Duration) -> Result<()> {
        let daemon = self.daemons.first().context("no daemon on the first node")?;
        daemon.signal(Signal::SIGSTOP).await?;
        tokio::time::sleep(for_).await;
        daemon.signal(Signal::SIGCONT).await
    }

    /// Looks at the first node's each `every`.
    pub(super) fn sample(&self, file: &Path, every: Duration) -> Result<Sampling> {
        let daemon = self.daemons.first().context("no daemon")?;
        Sampling::start(daemon.whereabouts(), file, every)
    }

    pub(super) async fn scrape(&self) -> Result<()> {
        try_join_all(self.daemons.iter().map(Daemon::scrape))
            .await
            .map(drop)
    }

    pub(super) async fn stop(self) -> Result<Vec<Life>> {
        try_join_all(self.daemons.into_iter().map(Daemon::stop)).await?;
        Ok(self.all)
    }
}
