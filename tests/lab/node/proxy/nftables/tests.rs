//! Tests of the text of nftables mode.

use super::*;
use crate::{net::Addresses, node::proxy::endpoints::Family};

fn place(family: Family) -> Place {
    let addresses = Addresses::of(0).unwrap();
    let v6 = family == Family::V6;
    Place {
        family,
        cluster_cidr: addresses.pods(v6),
        services: addresses.services(v6),
        node_ip: if v6 {
            addresses.node_v6(1).into()
        } else {
            addresses.node_v4(1).into()
        },
    }
}

fn addrs(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

fn web(cluster: &[&str], local: &[&str]) -> ServicePort {
    ServicePort {
        service: ("default".into(), "web".into()),
        name: "default/web".into(),
        port_name: String::new(),
        protocol: "tcp".into(),
        cluster_ips: vec!["10.96.0.80".parse().unwrap()],
        port: 80,
        node_port: Some(30080),
        external_local: false,
        internal_local: false,
        cluster: addrs(cluster),
        local: addrs(local),
        node: addrs(local),
        serving: addrs(cluster).into_iter().collect(),
    }
}

fn touching() -> BTreeSet<Key> {
    [("default".to_owned(), "web".to_owned())].into()
}

/// The second sync, from `before` to `after`.
fn second(before: &ServicePort, after: &[ServicePort]) -> Sync {
    let place = place(Family::V4);
    let first = Table::renewed().render(&place, std::slice::from_ref(before), None, 0);
    first.table.render(&place, after, Some(&touching()), 10)
}

const SERVICE: &str = "service-PFISGYVC-default/web/tcp/";
const EXTERNAL: &str = "external-PFISGYVC-default/web/tcp/";

#[test]
fn a_removed_endpoint_rewrites_the_chains_of_its_service_and_nothing_else() {
    let before = web(&["10.244.1.2:8080", "10.244.2.2:8080"], &["10.244.1.2:8080"]);
    let sync = second(&before, &[web(&["10.244.2.2:8080"], &[])]);
    let expected = format!(
        "add chain ip kube-proxy {SERVICE}\n\
         flush chain ip kube-proxy {SERVICE}\n\
         add rule ip kube-proxy {SERVICE} meta l4proto tcp dnat ip to numgen random mod 1 map {{ 0 : 10.244.2.2 . 8080 }}\n\
         add chain ip kube-proxy {EXTERNAL}\n\
         flush chain ip kube-proxy {EXTERNAL}\n\
         add rule ip kube-proxy {EXTERNAL} mark set mark or 0x4000 comment \"masquerade\"\n\
         add rule ip kube-proxy {EXTERNAL} goto {SERVICE}\n\
         delete element ip kube-proxy hairpin-connections {{ 10.244.1.2 . 10.244.1.2 . tcp . 8080 }}\n"
    );
    assert_eq!(sync.text, expected);
    assert_eq!(sync.tidy, "");
}

#[test]
fn an_untouched_service_is_not_written() {
    let place = place(Family::V4);
    let web = web(&["10.244.1.2:8080"], &[]);
    let first = Table::renewed().render(&place, std::slice::from_ref(&web), None, 0);
    let again = first.table.render(&place, &[web], Some(&BTreeSet::new()), 10);
    assert_eq!(again.text, "");
}

#[test]
fn without_endpoints_the_service_is_rejected_and_its_chains_are_emptied_then_deleted() {
    let gone = second(&web(&["10.244.1.2:8080"], &[]), &[web(&[], &[])]);
    for line in [
        "add element ip kube-proxy no-endpoint-services { 10.96.0.80 . tcp . 80 comment \"default/web\" : goto reject-chain }",
        "add element ip kube-proxy no-endpoint-nodeports { tcp . 30080 comment \"default/web\" : goto reject-chain }",
        "delete element ip kube-proxy service-ips { 10.96.0.80 . tcp . 80 }",
        "delete element ip kube-proxy service-nodeports { tcp . 30080 }",
        &format!("flush chain ip kube-proxy {SERVICE}"),
    ] {
        assert!(gone.text.lines().any(|l| l == line), "no {line} in {}", gone.text);
    }
    let place = place(Family::V4);
    let soon = gone
        .table
        .render(&place, &[web(&[], &[])], Some(&BTreeSet::new()), 20);
    assert_eq!(soon.tidy, "", "an emptied chain stays for a second");
    let later = soon
        .table
        .render(&place, &[web(&[], &[])], Some(&BTreeSet::new()), 2 * STALE_NS);
    let deleted = format!("delete chain ip kube-proxy {EXTERNAL}\ndelete chain ip kube-proxy {SERVICE}\n");
    assert_eq!(later.tidy, deleted);
    let back = soon
        .table
        .render(&place, &[web(&["10.244.1.3:8080"], &[])], Some(&touching()), 30);
    let kept = back.table.render(
        &place,
        &[web(&["10.244.1.3:8080"], &[])],
        Some(&BTreeSet::new()),
        3 * STALE_NS,
    );
    assert_eq!(kept.tidy, "", "a chain in use again is not deleted");
}

#[test]
fn with_policy_local_and_no_local_endpoint_the_node_port_drops() {
    let mut away = web(&["10.244.2.2:8080"], &[]);
    away.external_local = true;
    let text = Table::renewed()
        .render(&place(Family::V4), &[away.clone()], None, 0)
        .text;
    for line in [
        "add element ip kube-proxy no-endpoint-nodeports { tcp . 30080 comment \"default/web\" : drop }"
            .to_owned(),
        format!("add element ip kube-proxy service-nodeports {{ tcp . 30080 : goto {EXTERNAL} }}"),
        format!(
            "add rule ip kube-proxy {EXTERNAL} ip saddr 10.244.0.0/20 goto {SERVICE} comment \"short-circuit pod traffic\""
        ),
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in {text}");
    }
    assert!(!text.contains("local-PFISGYVC") && !text.contains("comment \"masquerade\""));
    away.local = addrs(&["10.244.1.2:8080"]);
    let text = Table::renewed().render(&place(Family::V4), &[away], None, 0).text;
    let to_local = format!("add rule ip kube-proxy {EXTERNAL} goto local-PFISGYVC-default/web/tcp/");
    assert!(text.lines().any(|l| l == to_local) && !text.contains(": drop"));
}

#[test]
fn ipv6_rules_are_in_table_ip6() {
    let mut web = web(&["[fd00:10:244:1::2]:8080"], &[]);
    web.cluster_ips = vec!["fd00:10:96::50".parse().unwrap()];
    let text = Table::renewed().render(&place(Family::V6), &[web], None, 0).text;
    assert!(text.contains(&format!(
        "add rule ip6 kube-proxy {SERVICE} meta l4proto tcp dnat ip6 to numgen random mod 1 map {{ 0 : fd00:10:244:1::2 . 8080 }}\n"
    )));
    assert!(!text.contains(" ip kube-proxy "));
}
