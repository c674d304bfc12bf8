//! Rules as kube-proxy writes them in nftables mode (pkg/proxy/nftables/proxier.go, syncProxyRules; the layout is that of
//! 1.36): the text of one transaction for `nft -f -`.

mod base;
mod elements;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::SocketAddr,
};

use super::{
    endpoints::{Key, ServicePort},
    names,
    rules::Place,
};
use elements::Elements;

/// Kernels before 6.2 need a moment until a chain counts as unused after the last map element that led to it went: a
/// chain is emptied at once and deleted by a later sync.
const STALE_NS: u64 = 1_000_000_000;

/// What kube-proxy knows of its table from the syncs before.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    elements: Elements,
    /// Per-service chains that lead somewhere.
    active: BTreeSet<String>,
    /// Emptied chains, and when: CLOCK_MONOTONIC, nanoseconds.
    stale: BTreeMap<String, u64>,
}

/// The texts of one sync, each a transaction, and the table after them.
#[derive(Debug)]
pub(super) struct Sync {
    /// Deletes chains that were emptied before; nothing to delete: empty.
    pub tidy: String,
    pub text: String,
    pub table: Table,
}

impl Table {
    /// The whole table is new, in case half of it is there.
    pub(super) fn renewed() -> Self {
        Self::default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.elements.is_empty()
    }

    /// Renders a sync. The chains of services in `touched` are written (None: the base and all of them), those of others
    /// are left as they are; of maps and sets what changed.
    pub(super) fn render(
        &self,
        place: &Place,
        ports: &[ServicePort],
        touched: Option<&BTreeSet<Key>>,
        now_ns: u64,
    ) -> Sync {
        let nft = place.nft();
        let mut table = self.clone();
        let mut tidy = String::new();
        table.stale.retain(|chain, since| {
            let keep = *since + STALE_NS >= now_ns;
            if !keep {
                let _ = writeln!(tidy, "delete chain {nft} {chain}");
            }
            keep
        });
        let mut text = String::new();
        if touched.is_none() {
            text += &base::setup(place);
        }
        let mut elements = Elements::default();
        let mut active = BTreeSet::new();
        for port in ports {
            let touched = touched.is_none_or(|touched| touched.contains(&port.service));
            let chains = Chains::of(port);
            for endpoint in &port.node {
                let (ip, port_number) = (endpoint.ip(), endpoint.port());
                elements.add(
                    "hairpin-connections",
                    format!("{ip} . {ip} . {} . {port_number}", port.protocol),
                );
            }
            chains.elements(port, &mut elements);
            for (chain, rules) in chains.rules(place, port) {
                if touched {
                    let _ = writeln!(text, "add chain {nft} {chain}\nflush chain {nft} {chain}");
                    for rule in rules {
                        let _ = writeln!(text, "add rule {nft} {chain} {rule}");
                    }
                }
                table.stale.remove(&chain);
                active.insert(chain);
            }
        }
        elements.write_changes(&self.elements, &nft, &mut text);
        for chain in self.active.difference(&active) {
            let _ = writeln!(text, "flush chain {nft} {chain}");
            table.stale.insert(chain.clone(), now_ns);
        }
        table.elements = elements;
        table.active = active;
        Sync { tidy, text, table }
    }
}

/// Chains of one service port.
struct Chains {
    service: String,
    local: String,
    external: String,
}

impl Chains {
    fn of(port: &ServicePort) -> Self {
        let base = names::nftables(&port.service, &port.protocol, &port.port_name);
        Self {
            service: format!("service-{base}"),
            local: format!("local-{base}"),
            external: format!("external-{base}"),
        }
    }

    fn internal(&self, port: &ServicePort) -> &str {
        if port.internal_local {
            &self.local
        } else {
            &self.service
        }
    }

    fn elements(&self, port: &ServicePort, elements: &mut Elements) {
        let ServicePort {
            protocol,
            port: number,
            name,
            ..
        } = port;
        let without = |reachable: bool| match (port.has_none(), reachable) {
            (true, _) => Some("goto reject-chain"),
            (false, false) => Some("drop"),
            (false, true) => None,
        };
        for ip in &port.cluster_ips {
            elements.add("cluster-ips", ip.to_string());
            let key = format!("{ip} . {protocol} . {number}");
            match without(port.reachable_inside()) {
                Some(verdict) => elements.lead("no-endpoint-services", key, verdict, Some(name)),
                None => {
                    let to = format!("goto {}", self.internal(port));
                    elements.lead("service-ips", key, &to, None);
                }
            }
        }
        let Some(node_port) = port.node_port else { return };
        let key = format!("{protocol} . {node_port}");
        if !port.has_none() {
            let to = format!("goto {}", self.external);
            elements.lead("service-nodeports", key.clone(), &to, None);
        }
        if let Some(verdict) = without(port.reachable_outside()) {
            elements.lead("no-endpoint-nodeports", key, verdict, Some(name));
        }
    }

    /// The chains that the port uses, in the order in which they are written.
    fn rules(&self, place: &Place, port: &ServicePort) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        if !port.cluster.is_empty() {
            all.push((self.service.clone(), vec![balance(place, port, &port.cluster)]));
        }
        if !port.local.is_empty() && (port.external_local || port.internal_local) {
            all.push((self.local.clone(), vec![balance(place, port, &port.local)]));
        }
        if port.node_port.is_some() && !port.has_none() {
            all.push((self.external.clone(), self.external_rules(place, port)));
        }
        all
    }

    fn external_rules(&self, place: &Place, port: &ServicePort) -> Vec<String> {
        let Self { service, local, .. } = self;
        if !port.external_local {
            // The endpoint may be on another node: its answer must come back here.
            return vec![
                "mark set mark or 0x4000 comment \"masquerade\"".to_owned(),
                format!("goto {service}"),
            ];
        }
        let (ip, pods) = (place.ip(), place.cluster_cidr);
        let mut rules = vec![
            format!("{ip} saddr {pods} goto {service} comment \"short-circuit pod traffic\""),
            "fib saddr type local mark set mark or 0x4000 comment \"masquerade local traffic\"".to_owned(),
            format!("fib saddr type local goto {service} comment \"short-circuit local traffic\""),
        ];
        if !port.local.is_empty() {
            rules.push(format!("goto {local}"));
        }
        rules
    }
}

/// One endpoint by chance.
fn balance(place: &Place, port: &ServicePort, endpoints: &[SocketAddr]) -> String {
    let map: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(n, e)| format!("{n} : {} . {}", e.ip(), e.port()))
        .collect();
    format!(
        "meta l4proto {} dnat {} to numgen random mod {} map {{ {} }}",
        port.protocol,
        place.ip(),
        endpoints.len(),
        map.join(" , ")
    )
}

#[cfg(test)]
mod tests;
