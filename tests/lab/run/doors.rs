//! Doors to the daemons' HTTP interfaces, each of which listens in its node's namespace only: a Prometheus outside scrapes
//! them live. Where they are stands in a file for its `file_sd_configs`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{cluster::within, scrape};
use crate::{net::in_netns, node::Node};

/// A Prometheus that looks at its file and at its targets every second needs a few.
const SCRAPE_LIMIT: Duration = Duration::from_secs(30);
/// The daemon answers within milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Open as long as this lives.
pub(super) struct Doors {
    passed: Vec<watch::Receiver<u64>>,
    _tasks: JoinSet<()>,
}

impl Doors {
    /// One for each node; writes where they are to `file`.
    pub(super) async fn open(nodes: &[Arc<Node>], file: &Path) -> Result<Self> {
        let (mut passed, mut tasks, mut targets) = (Vec::new(), JoinSet::new(), Vec::new());
        for node in nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            targets.push(serde_json::json!({
                "targets": [listener.local_addr()?],
                "labels": {"node": node.name()},
            }));
            let (count, counted) = watch::channel(0);
            passed.push(counted);
            tasks.spawn(serve(listener, node.net().netns().to_owned(), count));
        }
        // Whole or not there at all, whenever it is read.
        let begun = file.with_extension("new");
        std::fs::write(&begun, serde_json::to_string(&targets)?)?;
        std::fs::rename(&begun, file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self {
            passed,
            _tasks: tasks,
        })
    }

    /// Waits until each has been gone through twice more: the second time began after this was asked.
    pub(super) async fn scraped(&mut self) -> Result<()> {
        for door in &mut self.passed {
            let until = *door.borrow() + 2;
            within(
                "a Prometheus' scrape",
                SCRAPE_LIMIT,
                door.wait_for(|n| *n >= until),
            )
            .await??;
        }
        Ok(())
    }
}

/// One after the other: a scrape takes milliseconds.
async fn serve(listener: TcpListener, netns: String, count: watch::Sender<u64>) {
    while let Ok((mut outside, _)) = listener.accept().await {
        let netns = netns.clone();
        let passed = timeout(ANSWER_LIMIT, async move {
            let mut inside = spawn_blocking(move || connect(&netns))
                .await
                .map_err(io::Error::other)??;
            copy_bidirectional(&mut outside, &mut inside).await
        });
        match passed.await {
            Ok(Ok((_, answered))) if answered > 0 => count.send_modify(|n| *n += 1),
            Ok(Ok(_)) | Err(_) => tracing::warn!("no answer to a scrape"),
            Ok(Err(error)) => tracing::warn!("a scrape broke off: {error}"),
        }
    }
}

fn connect(netns: &str) -> io::Result<TcpStream> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, scrape::PORT));
    let stream = in_netns(netns, || {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })?;
    TcpStream::from_std(stream)
}
