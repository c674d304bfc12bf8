//! Rules as kube-proxy writes them: the text for `iptables-restore --noflush`
//! (pkg/proxy/iptables/proxier.go, syncProxyRules).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    endpoints::{Family, Key, ServicePort},
    names,
};
use crate::net::Subnet;

/// What a sync needs beside the service ports.
#[derive(Debug)]
pub(super) struct Place {
    pub family: Family,
    /// All pods of the cluster; other sources are masqueraded.
    pub cluster_cidr: Subnet,
    /// All services of the cluster.
    pub services: Subnet,
    /// Where NodePorts listen.
    pub node_ip: IpAddr,
}

impl Place {
    /// nft's word for the family.
    pub(super) fn ip(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// Family and table of nftables mode, as nft's commands have them.
    pub(super) fn nft(&self) -> String {
        format!("{} kube-proxy", self.ip())
    }
}

/// Chains and jumps that exist once: what kubelet and kube-proxy make at start.
pub(super) fn base() -> &'static str {
    "*mangle\n\
     :KUBE-IPTABLES-HINT - [0:0]\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     :KUBE-PROXY-CANARY - [0:0]\n\
     COMMIT\n\
     *filter\n\
     :KUBE-EXTERNAL-SERVICES - [0:0]\n\
     :KUBE-FIREWALL - [0:0]\n\
     :KUBE-FORWARD - [0:0]\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     :KUBE-NODEPORTS - [0:0]\n\
     :KUBE-PROXY-CANARY - [0:0]\n\
     :KUBE-PROXY-FIREWALL - [0:0]\n\
     :KUBE-SERVICES - [0:0]\n\
     -A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL\n\
     -A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS\n\
     -A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES\n\
     -A INPUT -j KUBE-FIREWALL\n\
     -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL\n\
     -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
     -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
     -A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES\n\
     -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL\n\
     -A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
     -A OUTPUT -j KUBE-FIREWALL\n\
     COMMIT\n\
     *nat\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     :KUBE-POSTROUTING - [0:0]\n\
     :KUBE-PROXY-CANARY - [0:0]\n\
     :KUBE-SERVICES - [0:0]\n\
     -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
     -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
     -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
     COMMIT\n"
}

/// What the kubelet alone makes (pkg/kubelet/kubelet_network_linux.go).
pub(super) const KUBELET: &str = "*mangle\n\
     :KUBE-IPTABLES-HINT - [0:0]\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     COMMIT\n\
     *filter\n\
     :KUBE-FIREWALL - [0:0]\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     -A INPUT -j KUBE-FIREWALL\n\
     -A OUTPUT -j KUBE-FIREWALL\n\
     COMMIT\n\
     *nat\n\
     :KUBE-KUBELET-CANARY - [0:0]\n\
     COMMIT\n";

/// The kubelet's own rule, IPv4 only (pkg/kubelet/kubelet_network_linux.go).
pub(super) const LOCALNET: &str = "*filter\n\
     -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
     COMMIT\n";

/// The text of one sync, and the per-service chains that exist after it.
pub(super) struct Sync {
    pub text: String,
    pub chains: BTreeSet<String>,
}

/// One table's part under construction: chain lines first, then rules.
#[derive(Default)]
struct Table {
    chains: String,
    rules: String,
}

impl Table {
    /// A chain line makes the chain, or empties it.
    fn chain(&mut self, name: &str) {
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn rule(&mut self, rule: std::fmt::Arguments<'_>) {
        let _ = self.rules.write_fmt(rule);
        self.rules.push('\n');
    }
}

macro_rules! rule {
    ($table:expr, $($format:tt)*) => { $table.rule(format_args!($($format)*)) };
}

/// Renders a sync. The chains of services in `touched` (None: of all) are written, those of others are left as they are;
/// `before` are the per-service chains that exist now, and what is no longer needed is deleted.
pub(super) fn render(
    place: &Place,
    ports: &[ServicePort],
    touched: Option<&BTreeSet<Key>>,
    before: &BTreeSet<String>,
) -> Sync {
    let (mut filter, mut nat) = (Table::default(), Table::default());
    for name in [
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
    ] {
        filter.chain(name);
    }
    for name in [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ",
    ] {
        nat.chain(name);
    }
    rule!(
        nat,
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"
    );
    rule!(nat, "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000");
    rule!(
        nat,
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
    );
    rule!(nat, "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000");
    let mut chains = BTreeSet::new();
    for port in ports {
        let mut one = Writer {
            place,
            of: port,
            nat: &mut nat,
            filter: &mut filter,
            chains: &mut chains,
        };
        one.write(touched.is_none_or(|touched| touched.contains(&port.service)));
    }
    for stale in before.difference(&chains) {
        nat.chain(stale);
        rule!(nat, "-X {stale}");
    }
    rule!(
        nat,
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -d {} -j KUBE-NODEPORTS",
        place.node_ip
    );
    rule!(filter, "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP");
    rule!(
        filter,
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT"
    );
    rule!(
        filter,
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    );
    let text = format!(
        "*filter\n{}{}COMMIT\n*nat\n{}{}COMMIT\n",
        filter.chains, filter.rules, nat.chains, nat.rules
    );
    Sync { text, chains }
}

/// Writes one service port.
struct Writer<'a> {
    place: &'a Place,
    of: &'a ServicePort,
    nat: &'a mut Table,
    filter: &'a mut Table,
    chains: &'a mut BTreeSet<String>,
}

impl Writer<'_> {
    fn write(&mut self, touched: bool) {
        let ServicePort {
            name, protocol, port, ..
        } = self.of;
        let chain = |prefix| names::service(prefix, name, protocol);
        let (svc, svl, ext) = (chain("KUBE-SVC-"), chain("KUBE-SVL-"), chain("KUBE-EXT-"));
        let local = self.of.external_local || self.of.internal_local;
        let internal = if self.of.internal_local { &svl } else { &svc };
        let dead = self.of.has_none();
        for ip in &self.of.cluster_ips {
            if dead {
                rule!(
                    self.filter,
                    "-A KUBE-SERVICES -m comment --comment \"{name} has no endpoints\" -m {protocol} -p {protocol} -d {ip} --dport {port} -j REJECT"
                );
            } else if !self.of.reachable_inside() {
                rule!(
                    self.filter,
                    "-A KUBE-SERVICES -m comment --comment \"{name} has no local endpoints\" -m {protocol} -p {protocol} -d {ip} --dport {port} -j DROP"
                );
            } else {
                rule!(
                    self.nat,
                    "-A KUBE-SERVICES -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {ip} --dport {port} -j {internal}"
                );
            }
        }
        if let Some(node_port) = self.of.node_port {
            if !self.of.reachable_outside() {
                let (what, target) = if dead {
                    ("endpoints", "REJECT")
                } else {
                    ("local endpoints", "DROP")
                };
                rule!(
                    self.filter,
                    "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{name} has no {what}\" -m addrtype --dst-type LOCAL -m {protocol} -p {protocol} --dport {node_port} -j {target}"
                );
            }
            if !dead {
                rule!(
                    self.nat,
                    "-A KUBE-NODEPORTS -m comment --comment {name} -m {protocol} -p {protocol} --dport {node_port} -j {ext}"
                );
            }
        }
        if dead {
            return;
        }
        if !self.of.cluster.is_empty() {
            self.balanced(&svc, &self.of.cluster, touched);
        }
        if local && !self.of.local.is_empty() {
            self.balanced(&svl, &self.of.local, touched);
        }
        if self.of.node_port.is_some() {
            self.external(&ext, &svc, &svl, touched);
        }
        for endpoint in self.of.all() {
            self.endpoint(endpoint, touched);
        }
    }

    fn use_chain(&mut self, chain: &str, touched: bool) {
        self.chains.insert(chain.to_owned());
        if touched {
            self.nat.chain(chain);
        }
    }

    /// KUBE-SVC and KUBE-SVL: masquerade what does not come from pods, then one endpoint by chance.
    fn balanced(&mut self, chain: &str, endpoints: &[SocketAddr], touched: bool) {
        self.use_chain(chain, touched);
        if !touched {
            return;
        }
        let ServicePort {
            name, protocol, port, ..
        } = self.of;
        if chain.starts_with("KUBE-SVC-") {
            for ip in &self.of.cluster_ips {
                rule!(
                    self.nat,
                    "-A {chain} -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {ip} --dport {port} ! -s {} -j KUBE-MARK-MASQ",
                    self.place.cluster_cidr
                );
            }
        }
        for (n, endpoint) in endpoints.iter().enumerate() {
            let sep = names::endpoint(name, protocol, &endpoint.to_string());
            let left = endpoints.len() - n;
            let chance = if left > 1 {
                format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / left as f64
                )
            } else {
                String::new()
            };
            rule!(
                self.nat,
                "-A {chain} -m comment --comment \"{name} -> {endpoint}\" {chance}-j {sep}"
            );
        }
    }

    /// KUBE-EXT: what came to a NodePort.
    fn external(&mut self, ext: &str, svc: &str, svl: &str, touched: bool) {
        self.use_chain(ext, touched);
        if !touched {
            return;
        }
        let ServicePort { name, .. } = self.of;
        if !self.of.external_local {
            rule!(
                self.nat,
                "-A {ext} -m comment --comment \"masquerade traffic for {name} external destinations\" -j KUBE-MARK-MASQ"
            );
            rule!(self.nat, "-A {ext} -j {svc}");
            return;
        }
        if !self.of.cluster.is_empty() {
            let cidr = self.place.cluster_cidr;
            rule!(
                self.nat,
                "-A {ext} -m comment --comment \"pod traffic for {name} external destinations\" -s {cidr} -j {svc}"
            );
            rule!(
                self.nat,
                "-A {ext} -m comment --comment \"masquerade LOCAL traffic for {name} external destinations\" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
            );
            rule!(
                self.nat,
                "-A {ext} -m comment --comment \"route LOCAL traffic for {name} external destinations\" -m addrtype --src-type LOCAL -j {svc}"
            );
        }
        if !self.of.local.is_empty() {
            rule!(self.nat, "-A {ext} -j {svl}");
        }
    }

    /// KUBE-SEP: one endpoint. A pod that reaches itself is masqueraded.
    fn endpoint(&mut self, endpoint: SocketAddr, touched: bool) {
        let ServicePort { name, protocol, .. } = self.of;
        let sep = names::endpoint(name, protocol, &endpoint.to_string());
        self.use_chain(&sep, touched);
        if touched {
            rule!(
                self.nat,
                "-A {sep} -m comment --comment {name} -s {} -j KUBE-MARK-MASQ",
                endpoint.ip()
            );
            rule!(
                self.nat,
                "-A {sep} -m comment --comment {name} -m {protocol} -p {protocol} -j DNAT --to-destination {endpoint}"
            );
        }
    }
}

#[cfg(test)]
mod tests;
