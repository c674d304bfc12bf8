//! One address family's rules: what they are now, and bringing them up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    Backend, conntrack,
    endpoints::{Family, Key, Known, ServicePort},
    generations::Generations,
    nftables,
    restore::{RestoreError, Tools},
    rules::{self, Place},
};
use crate::{clock::monotonic_ns, node::Node, times};

/// One address family's rules.
pub(super) struct Proxier {
    place: Place,
    written: Written,
    /// Services whose chains the next sync writes; None: everything.
    touched: Option<BTreeSet<Key>>,
    routed: BTreeSet<SocketAddr>,
}

/// What kube-proxy remembers of the rules that it wrote.
enum Written {
    /// The per-service chains.
    Iptables(BTreeSet<String>),
    Nftables(nftables::Table),
}

impl Proxier {
    pub(super) fn new(place: Place, backend: Backend) -> Self {
        let written = match backend {
            Backend::Nft | Backend::Legacy => Written::Iptables(BTreeSet::new()),
            Backend::Nftables => Written::Nftables(nftables::Table::renewed()),
        };
        Self {
            place,
            written,
            touched: None,
            routed: BTreeSet::new(),
        }
    }

    /// Chains and rules that exist once: the kubelet's, and in iptables mode kube-proxy's.
    pub(super) async fn base(&self, node: &Arc<Node>, tools: &Arc<Tools>) -> anyhow::Result<()> {
        let family = self.place.family;
        let mut texts = match self.written {
            Written::Iptables(_) => vec![rules::base()],
            Written::Nftables(_) => vec![rules::KUBELET],
        };
        if family == Family::V4 {
            texts.push(rules::LOCALNET);
        }
        for text in texts {
            run(node, tools, move |tools, netns| {
                tools.restore(netns, family, text)
            })
            .await?;
        }
        Ok(())
    }

    /// This service's rules must be written again.
    pub(super) fn touch(&mut self, key: &Key) {
        if let Some(touched) = &mut self.touched {
            touched.insert(key.clone());
        }
    }

    /// False: the rules were not written.
    pub(super) async fn sync(
        &mut self,
        node: &Arc<Node>,
        tools: &Arc<Tools>,
        known: &Known,
        generations: Option<&Generations>,
    ) -> anyhow::Result<bool> {
        let ports = known.ports(self.place.family, node.name());
        if ports.is_empty() && self.touched.is_some() && self.written.is_empty() {
            // Nothing of this family, and the base is written: a single-stack cluster has no second proxier.
            return Ok(true);
        }
        let began_ns = monotonic_ns();
        if let Err(error) = self.write(node, tools, &ports, began_ns).await {
            // As kube-proxy: a failed sync is tried again in full.
            tracing::error!(node = node.name(), %error, "sync failed");
            self.touched = None;
            return Ok(false);
        }
        let ended_ns = monotonic_ns();
        let in_force_ns = match generations {
            Some(generations) => generations.since(began_ns).await,
            None => None,
        };
        self.touched = Some(BTreeSet::new());
        let routed: BTreeSet<SocketAddr> = ports.iter().flat_map(ServicePort::all).collect();
        let endpoints = ports
            .iter()
            .map(|p| (p.name.clone(), p.all().into_iter().collect()));
        let line = times::Sync {
            node: node.name().to_owned(),
            family: self.place.family,
            backend: node.settings().backend,
            began_ns,
            ended_ns,
            in_force_ns,
            endpoints: endpoints.collect::<BTreeMap<_, _>>(),
            added: routed.difference(&self.routed).copied().collect(),
            removed: self.routed.difference(&routed).copied().collect(),
        };
        self.routed = routed;
        node.times().write(ended_ns, times::What::Sync(line))?;
        if node.settings().udp_cleanup {
            self.forget_stale_udp(node, ports).await;
        }
        Ok(true)
    }

    async fn write(
        &mut self,
        node: &Arc<Node>,
        tools: &Arc<Tools>,
        ports: &[ServicePort],
        now_ns: u64,
    ) -> anyhow::Result<()> {
        let family = self.place.family;
        match &mut self.written {
            Written::Iptables(chains) => {
                let sync = rules::render(&self.place, ports, self.touched.as_ref(), chains);
                let text = sync.text;
                run(node, tools, move |tools, netns| {
                    tools.restore(netns, family, &text)
                })
                .await?;
                *chains = sync.chains;
            }
            Written::Nftables(table) => {
                if self.touched.is_none() {
                    // Sets and maps are emptied with the base; what they had is not known after a failure.
                    *table = nftables::Table::renewed();
                }
                let sync = table.render(&self.place, ports, self.touched.as_ref(), now_ns);
                for text in [sync.tidy, sync.text] {
                    if !text.is_empty() {
                        run(node, tools, move |tools, netns| tools.nft(netns, &text)).await?;
                    }
                }
                *table = sync.table;
            }
        }
        Ok(())
    }

    /// An entry that stays costs datagrams, not the sync.
    async fn forget_stale_udp(&self, node: &Arc<Node>, ports: Vec<ServicePort>) {
        if ports.iter().all(|p| p.protocol != "udp") {
            return;
        }
        let (family, name) = (self.place.family, node.name().to_owned());
        let node = Arc::clone(node);
        let cleaned =
            tokio::task::spawn_blocking(move || conntrack::clean(node.net().netns(), family, &ports)).await;
        match cleaned {
            Ok(Ok(count)) => tracing::debug!(node = name, count, "stale UDP entries removed"),
            Ok(Err(error)) => tracing::warn!(node = name, %error, "stale UDP entries stay"),
            Err(error) => tracing::warn!(node = name, %error, "stale UDP entries stay"),
        }
    }
}

impl Written {
    fn is_empty(&self) -> bool {
        match self {
            Self::Iptables(chains) => chains.is_empty(),
            Self::Nftables(table) => table.is_empty(),
        }
    }
}

/// Runs a tool on a thread that may wait for it.
async fn run(
    node: &Arc<Node>,
    tools: &Arc<Tools>,
    write: impl FnOnce(&Tools, &str) -> Result<(), RestoreError> + Send + 'static,
) -> anyhow::Result<()> {
    let (node, tools) = (Arc::clone(node), Arc::clone(tools));
    Ok(tokio::task::spawn_blocking(move || write(&tools, node.net().netns())).await??)
}
