//! What kube-proxy's table has whatever the services are: base chains, sets, maps, and the way through them.

use std::fmt::Write as _;

use super::super::{endpoints::Family, rules::Place};

/// Name, type and hook, priority. The filter chains that see addresses before translation come just before it.
const HOOKS: [(&str, &str, i32); 8] = [
    ("filter-prerouting-pre-dnat", "filter hook prerouting", -110),
    ("filter-output-pre-dnat", "filter hook output", -110),
    ("filter-input", "filter hook input", 0),
    ("filter-forward", "filter hook forward", 0),
    ("filter-output", "filter hook output", 0),
    ("nat-prerouting", "nat hook prerouting", -100),
    ("nat-output", "nat hook output", -100),
    ("nat-postrouting", "nat hook postrouting", 100),
];

/// From where, on what condition, to where.
const JUMPS: [(&str, &str, &str); 11] = [
    ("filter-input", "ct state new ", "nodeport-endpoints-check"),
    ("filter-input", "ct state new ", "service-endpoints-check"),
    ("filter-forward", "ct state new ", "service-endpoints-check"),
    ("filter-output", "ct state new ", "service-endpoints-check"),
    ("filter-prerouting-pre-dnat", "ct state new ", "firewall-check"),
    ("filter-output-pre-dnat", "ct state new ", "firewall-check"),
    ("nat-output", "", "services"),
    ("nat-prerouting", "", "services"),
    ("nat-postrouting", "", "masquerading"),
    ("filter-forward", "ct state new ", "cluster-ips-check"),
    ("filter-output", "ct state new ", "cluster-ips-check"),
];

/// Makes the table, whether or not it is there.
pub(super) fn setup(place: &Place) -> String {
    let (nft, ip) = (place.nft(), place.ip());
    let v6 = place.family == Family::V6;
    let addr = if v6 { "ipv6_addr" } else { "ipv4_addr" };
    let mut text = format!("add table {nft} {{ comment \"rules for kube-proxy\" ; }}\n");
    // Writing to a String cannot fail.
    for (chain, hook, priority) in HOOKS {
        let _ = writeln!(
            text,
            "add chain {nft} {chain} {{ type {hook} priority {priority} ; }}\nflush chain {nft} {chain}"
        );
    }
    let mut made = Vec::new();
    for (from, condition, to) in JUMPS {
        if !made.contains(&to) {
            made.push(to);
            let _ = writeln!(text, "add chain {nft} {to}\nflush chain {nft} {to}");
        }
        let _ = writeln!(text, "add rule {nft} {from} {condition}jump {to}");
    }
    let _ = writeln!(
        text,
        "add chain {nft} reject-chain\nflush chain {nft} reject-chain"
    );
    let service = format!("{addr} . inet_proto . inet_service");
    let node_port = "inet_proto . inet_service";
    for (kind, name, key, comment) in [
        (
            "set",
            "hairpin-connections",
            format!("{addr} . {service}"),
            "service hairpin connections",
        ),
        ("set", "cluster-ips", addr.to_owned(), "Active ClusterIPs"),
        (
            "set",
            "nodeport-ips",
            addr.to_owned(),
            "IPs that accept NodePort traffic",
        ),
        (
            "map",
            "no-endpoint-services",
            service.clone(),
            "vmap to drop or reject packets to services with no endpoints",
        ),
        (
            "map",
            "no-endpoint-nodeports",
            node_port.to_owned(),
            "vmap to drop or reject packets to service nodeports with no endpoints",
        ),
        (
            "map",
            "firewall-ips",
            service.clone(),
            "destinations that are subject to LoadBalancerSourceRanges",
        ),
        (
            "map",
            "service-ips",
            service,
            "ClusterIP, ExternalIP and LoadBalancer IP traffic",
        ),
        (
            "map",
            "service-nodeports",
            node_port.to_owned(),
            "NodePort traffic",
        ),
    ] {
        let value = if kind == "map" { " : verdict" } else { "" };
        let _ = writeln!(
            text,
            "add {kind} {nft} {name} {{ type {key}{value} ; comment \"{comment}\" ; }}\nflush {kind} {nft} {name}"
        );
    }
    let _ = writeln!(text, "add element {nft} nodeport-ips {{ {} }}", place.node_ip);
    let (pods, services) = (place.cluster_cidr, place.services);
    let destination = format!("{ip} daddr . meta l4proto . th dport");
    let node_port = format!("{ip} daddr @nodeport-ips meta l4proto . th dport");
    for (chain, rule) in [
        (
            "masquerading",
            "mark & 0x4000 != 0 mark set mark ^ 0x4000 masquerade fully-random".to_owned(),
        ),
        (
            "masquerading",
            format!("ct status dnat {ip} saddr . {destination} @hairpin-connections masquerade fully-random"),
        ),
        (
            "cluster-ips-check",
            format!(
                "{ip} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\""
            ),
        ),
        (
            "cluster-ips-check",
            format!("{ip} daddr {services} drop comment \"Drop traffic to unallocated ClusterIPs\""),
        ),
        ("reject-chain", "reject".to_owned()),
        (
            "service-endpoints-check",
            format!("{destination} vmap @no-endpoint-services"),
        ),
        (
            "nodeport-endpoints-check",
            format!("{node_port} vmap @no-endpoint-nodeports"),
        ),
        ("firewall-check", format!("{destination} vmap @firewall-ips")),
        (
            "services",
            format!(
                "{ip} daddr @cluster-ips {ip} saddr != {pods} mark set mark or 0x4000 comment \"masquerade clusterIP traffic from outside cluster\""
            ),
        ),
        ("services", format!("{destination} vmap @service-ips")),
        ("services", format!("{node_port} vmap @service-nodeports")),
    ] {
        let _ = writeln!(text, "add rule {nft} {chain} {rule}");
    }
    text
}
