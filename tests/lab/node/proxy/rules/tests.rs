//! Tests of the text of iptables mode: what a Service without usable endpoints has, and the two traffic policies.

use super::*;
use crate::net::Addresses;

fn place() -> Place {
    let addresses = Addresses::of(0).unwrap();
    Place {
        family: Family::V4,
        cluster_cidr: addresses.pods(false),
        services: addresses.services(false),
        node_ip: addresses.node_v4(1).into(),
    }
}

fn web(cluster: &[&str], local: &[&str]) -> ServicePort {
    let addrs = |list: &[&str]| -> Vec<SocketAddr> { list.iter().map(|a| a.parse().unwrap()).collect() };
    ServicePort {
        service: ("default".into(), "web".into()),
        name: "default/web".into(),
        port_name: String::new(),
        protocol: "tcp".into(),
        cluster_ips: vec!["10.96.0.80".parse().unwrap()],
        port: 80,
        node_port: Some(30080),
        external_local: true,
        internal_local: false,
        cluster: addrs(cluster),
        local: addrs(local),
        node: addrs(local),
        serving: addrs(cluster).into_iter().collect(),
    }
}

fn text(port: ServicePort) -> String {
    render(&place(), &[port], None, &BTreeSet::new()).text
}

const EXT: &str = "KUBE-EXT-LOLE4ISW44XBNF3G";

#[test]
fn without_any_endpoint_both_addresses_are_rejected_and_nothing_is_translated() {
    let text = text(web(&[], &[]));
    for line in [
        "-A KUBE-SERVICES -m comment --comment \"default/web has no endpoints\" -m tcp -p tcp -d 10.96.0.80 --dport 80 -j REJECT",
        "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"default/web has no endpoints\" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 30080 -j REJECT",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in {text}");
    }
    assert!(!text.contains("DNAT") && !text.contains(EXT));
}

#[test]
fn with_policy_local_and_no_local_endpoint_the_node_port_drops_and_the_cluster_address_works() {
    let text = text(web(&["10.244.2.2:8080"], &[]));
    for line in [
        "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"default/web has no local endpoints\" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 30080 -j DROP".to_owned(),
        format!("-A {EXT} -m comment --comment \"pod traffic for default/web external destinations\" -s 10.244.0.0/20 -j KUBE-SVC-LOLE4ISW44XBNF3G"),
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in {text}");
    }
    assert!(text.contains("--to-destination 10.244.2.2:8080"));
    assert!(!text.contains("KUBE-SVL-"));
}

#[test]
fn with_policy_local_only_the_nodes_own_endpoints_get_what_comes_from_outside() {
    let text = text(web(&["10.244.1.2:8080", "10.244.2.2:8080"], &["10.244.1.2:8080"]));
    let svl = "KUBE-SVL-LOLE4ISW44XBNF3G";
    assert!(text.lines().any(|l| l == format!("-A {EXT} -j {svl}")));
    let of_svl: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with(&format!("-A {svl} ")))
        .collect();
    assert_eq!(of_svl.len(), 1);
    assert!(of_svl[0].contains("default/web -> 10.244.1.2:8080"));
    assert!(!text.contains("-j DROP\n-A KUBE-EXTERNAL") && !text.contains("has no"));
}

#[test]
fn with_policy_cluster_what_comes_from_outside_is_masqueraded() {
    let mut web = web(&["10.244.1.2:8080"], &["10.244.1.2:8080"]);
    web.external_local = false;
    let text = text(web);
    let masquerade = format!(
        "-A {EXT} -m comment --comment \"masquerade traffic for default/web external destinations\" -j KUBE-MARK-MASQ"
    );
    assert!(text.lines().any(|l| l == masquerade));
    assert!(!text.contains("KUBE-SVL-"));
}

#[test]
fn a_udp_port_has_rules_of_its_own_protocol() {
    let mut web = web(&["10.244.1.2:8080"], &[]);
    web.protocol = "udp".into();
    let text = text(web);
    assert!(text.contains("-m udp -p udp -j DNAT --to-destination 10.244.1.2:8080"));
    assert!(!text.contains("-p tcp"));
}
