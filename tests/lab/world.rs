//! A running lab: the run, the network, the objects and the nodes, started and removed together.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::store::Store,
    net::{Addresses, Lan, NetError, Run, Slot},
    node::{Node, NodeError, Settings},
};

/// A cluster of nodes. Dropping it stops everything and removes what it made; [`World::stop`] also waits for it.
pub struct World {
    nodes: Vec<Arc<Node>>,
    lan: Option<Lan>,
    run: Arc<Run>,
    store: Store,
    /// Given back last: until then the addresses are this world's.
    slot: Slot,
}

impl World {
    /// Starts a world with one node in `slot`. Must run inside a tokio runtime, as root.
    pub fn start(slot: Slot, store: Store, settings: Settings) -> Result<Self, NodeError> {
        Self::start_nodes(slot, store, vec![settings])
    }

    /// The same with a node for each of `settings`; their numbers are 1 to their count.
    pub fn start_nodes(slot: Slot, store: Store, settings: Vec<Settings>) -> Result<Self, NodeError> {
        let run = Arc::new(Run::start().map_err(NetError::from)?);
        let count = u8::try_from(settings.len()).unwrap_or(u8::MAX);
        let lan = Lan::create(&run, slot.addresses(), count)?;
        let nodes = settings
            .into_iter()
            .map(|settings| Node::start(&run, &lan, &store, settings))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            nodes,
            lan: Some(lan),
            run,
            store,
            slot,
        })
    }

    /// The first node.
    pub fn node(&self) -> Result<&Arc<Node>, NodeError> {
        self.nodes.first().ok_or(NodeError::Stopped)
    }

    /// In the order of their numbers.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    pub fn addresses(&self) -> Addresses {
        self.slot.addresses()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Namespace of clients outside of the cluster.
    pub fn outside(&self) -> &str {
        self.lan.as_ref().map_or("", Lan::outside)
    }

    /// Stops kubelet and kube-proxy, then removes processes, namespaces and cgroups.
    pub async fn stop(mut self) {
        for node in std::mem::take(&mut self.nodes) {
            node.stopped().await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.stop();
        }
        self.run.remove();
    }
}

/// Resolves at SIGINT, SIGTERM or SIGHUP: time to remove everything and to end.
pub async fn interrupted() -> std::io::Result<()> {
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    let mut hup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
    Ok(())
}
