//! The lab's rules in nftables mode beside those of a real kube-proxy (1.36.2), as `nft -j list table` prints both.

use std::{collections::BTreeSet, process::Command, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};
use zdt_lab::{
    api::store::Store,
    net::{Addresses, Slot, enter_on_exec, fitting},
    node::{Backend, Settings},
    times::Times,
    world::World,
};

/// One Service with a NodePort and three endpoints on two nodes, and the API server's.
const REAL: &str = include_str!("../../zdt-daemon/tests/fixtures/netfilter/nftables-before.nft.json");

fn same_objects_as_the_real_cluster(store: &Store, node: &str) {
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
            "kubernetes",
            json!([{"name": "https", "port": 6443}]),
            json!([{"addresses": [node]}]),
        ),
        (
            "web",
            json!([{"port": 8080}]),
            json!([{"addresses": ["10.244.0.24"], "nodeName": "n1"}, {"addresses": ["10.244.1.18"]}, {"addresses": ["10.244.1.19"]}]),
        ),
    ];
    for (name, ports, endpoints) in slices {
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

/// Every object of IPv4's table, without what the kernel numbers; elements of sets and maps one by one.
fn objects(text: &str) -> BTreeSet<String> {
    let all: Value = serde_json::from_str(text).unwrap();
    let mut objects = BTreeSet::new();
    for object in all["nftables"].as_array().unwrap() {
        let (kind, value) = object.as_object().unwrap().iter().next().unwrap();
        let mut value = value.clone();
        let of_table = value["table"] == "kube-proxy" || kind == "table" && value["name"] == "kube-proxy";
        if value["family"] != "ip" || !of_table {
            continue;
        }
        value.as_object_mut().unwrap().remove("handle");
        if let Some(elements) = value.as_object_mut().unwrap().remove("elem") {
            for element in elements.as_array().unwrap() {
                objects.insert(format!("{} has {element}", value["name"]));
            }
        }
        objects.insert(format!("{kind} {value}"));
    }
    objects
}

/// The real rules as they are for a cluster with these addresses.
fn real(addresses: Addresses) -> String {
    let prefix = |text: String| {
        let (addr, len) = text.split_once('/').unwrap();
        format!(r#"{{"addr":"{addr}","len":{len}}}"#)
    };
    let compact: Value = serde_json::from_str(REAL).unwrap();
    let compact = compact.to_string();
    let pods = compact.replace(
        r#"{"addr":"10.244.0.0","len":16}"#,
        &prefix(addresses.pods(false).to_string()),
    );
    pods.replace(
        r#"{"addr":"10.96.0.0","len":16}"#,
        &prefix(addresses.services(false).to_string()),
    )
    .replace("10.99.0.1", &addresses.node_v4(1).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nftables_rules_are_those_of_a_real_kube_proxy() {
    let out = std::env::temp_dir().join(format!("zdt-nftables-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let store = Store::new();
    let slot = Slot::take(fitting()).await.unwrap();
    let addresses = slot.addresses();
    same_objects_as_the_real_cluster(&store, &addresses.node_v4(1).to_string());
    let mut settings = Settings::new(env!("CARGO_BIN_EXE_zdt-lab").into(), out.clone());
    settings.backend = Backend::Nftables;
    let world = World::start(slot, store, settings).unwrap_or_else(|e| panic!("no world: {e}"));
    while !std::fs::read_to_string(Times::path(&out)).is_ok_and(|t| t.contains("10.244.1.19")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut list = Command::new("nft");
    list.args(["-j", "list", "table", "ip", "kube-proxy"]);
    enter_on_exec(&mut list, world.node().unwrap().net().netns()).unwrap();
    let ours = objects(&String::from_utf8(list.output().unwrap().stdout).unwrap());
    world.stop().await;
    std::fs::remove_dir_all(&out).unwrap();
    let theirs = objects(&real(addresses));
    assert!(theirs.len() > 50, "the sample has a table");
    let (missing, extra) = (&theirs - &ours, &ours - &theirs);
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
}
