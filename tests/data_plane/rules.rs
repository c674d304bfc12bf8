//! The lab's rules beside those of a real kube-proxy (1.36.2, iptables-nft), as iptables-save prints both.

use std::{collections::BTreeSet, process::Command, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::json;
use zdt_lab::{
    api::store::Store,
    net::{Addresses, Slot, enter_on_exec, fitting},
    node::{Backend, Settings},
    times::Times,
    world::World,
};

/// One Service with a NodePort and four endpoints on two nodes, and the API server's.
const REAL: &str = include_str!("real-cluster.iptables-save");

fn same_objects_as_the_real_cluster(store: &Store) {
    let services = [
        ("web", "10.96.0.80", json!([{"port": 80, "nodePort": 30080}])),
        ("kubernetes", "10.96.0.1", json!([{"name": "https", "port": 443}])),
    ];
    for (name, ip, ports) in services {
        let service = json!({"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIPs": [ip], "ports": ports}});
        store
            .create::<Service>(serde_json::from_value(service).unwrap())
            .unwrap();
    }
    let slices = [
        (
            "web",
            json!([{"port": 8080}]),
            vec!["10.244.0.17", "10.244.1.13", "10.244.1.14", "10.244.1.15"],
        ),
        (
            "kubernetes",
            json!([{"name": "https", "port": 6443}]),
            vec!["10.99.0.1"],
        ),
    ];
    for (name, ports, ips) in slices {
        let endpoints: Vec<_> = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": ports,
            "endpoints": endpoints,
        });
        store
            .create::<EndpointSlice>(serde_json::from_value(slice).unwrap())
            .unwrap();
    }
}

/// The real rules as they are for a cluster with these addresses.
fn real(addresses: Addresses) -> Vec<String> {
    let node = format!(
        "-d {}/32 -m comment --comment \"kubernetes service nodeports",
        addresses.node_v4(1)
    );
    let text = REAL
        .replace("10.244.0.0/16", &addresses.pods(false).to_string())
        .replace(
            "-d 10.99.0.1/32 -m comment --comment \"kubernetes service nodeports",
            &node,
        );
    lines(&text)
}

/// `*table` and each of its lines, in order; counters and comments of the tool left out.
fn lines(save: &str) -> Vec<String> {
    let mut table = String::new();
    let mut lines = Vec::new();
    for line in save.lines().filter(|l| !l.starts_with('#') && *l != "COMMIT") {
        match line.strip_prefix('*') {
            Some(name) => name.clone_into(&mut table),
            // The lab counts invalid packets nowhere: kube-proxy without the nfacct module writes the same.
            // A chain line ends with its counters.
            None if line.starts_with(':') => {
                lines.push(format!("{table} {}", line.split(" [").next().unwrap_or(line)));
            }
            None => lines.push(format!(
                "{table} {}",
                line.replace("-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts ", "")
            )),
        }
    }
    lines
}

/// The lab's rules, and the real ones for the same addresses.
async fn saved(backend: Backend, tool: &str) -> (Vec<String>, Vec<String>) {
    let out = std::env::temp_dir().join(format!("zdt-rules-{tool}-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let store = Store::new();
    same_objects_as_the_real_cluster(&store);
    let mut settings = Settings::new(env!("CARGO_BIN_EXE_zdt-lab").into(), out.clone());
    settings.backend = backend;
    let slot = Slot::take(fitting()).await.unwrap();
    let addresses = slot.addresses();
    let world = World::start(slot, store, settings).unwrap_or_else(|e| panic!("no world: {e}"));
    while !std::fs::read_to_string(Times::path(&out)).is_ok_and(|t| t.contains("10.244.1.15")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut save = Command::new(tool);
    enter_on_exec(&mut save, world.node().unwrap().net().netns()).unwrap();
    let text = String::from_utf8(save.output().unwrap().stdout).unwrap();
    world.stop().await;
    std::fs::remove_dir_all(&out).unwrap();
    (lines(&text), real(addresses))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iptables_nft_rules_are_those_of_a_real_kube_proxy() {
    let (ours, theirs) = saved(Backend::Nft, "iptables-nft-save").await;
    let set = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
    let (missing, extra) = (&set(&theirs) - &set(&ours), &set(&ours) - &set(&theirs));
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
    let of = |lines: &[String], chain: &str| -> Vec<String> {
        lines
            .iter()
            .filter(|l| l.contains(&format!("-A {chain} ")))
            .cloned()
            .collect()
    };
    // KUBE-SERVICES is in the order of a map in kube-proxy; only its last rule has a fixed place.
    assert_eq!(
        of(&ours, "KUBE-SERVICES").last(),
        of(&theirs, "KUBE-SERVICES").last()
    );
    for chain in [
        "KUBE-SVC-LOLE4ISW44XBNF3G",
        "KUBE-EXT-LOLE4ISW44XBNF3G",
        "KUBE-SEP-7SBJABJFXKNZTP6W",
        "KUBE-POSTROUTING",
        "KUBE-FORWARD",
        "FORWARD",
    ] {
        assert_eq!(of(&ours, chain), of(&theirs, chain), "order in {chain}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iptables_legacy_has_the_same_rules() {
    let rules = |lines: Vec<String>| {
        lines
            .into_iter()
            .filter(|l| l.contains(" -A "))
            .collect::<BTreeSet<_>>()
    };
    let (ours, theirs) = saved(Backend::Legacy, "iptables-legacy-save").await;
    let (ours, theirs) = (rules(ours), rules(theirs));
    let (missing, extra) = (&theirs - &ours, &ours - &theirs);
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
}
