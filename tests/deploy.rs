//! The manifests are what they look like: each document is of a known type, and no field is lost on the way through the
//! typed API (a misspelt field would be).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "deploy/components.rs"]
mod components;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, Namespace, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use zdt_daemon::config::{Cli, PORT, Verb};

fn base(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/base")
        .join(file)
}

fn documents(file: &str) -> Vec<Value> {
    let path = base(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split("\n---\n")
        .map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{file}: {e}")))
        .collect()
}

fn round_trip<T: Serialize + DeserializeOwned>(document: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(document.clone()).unwrap()).unwrap()
}

/// Every field of `a` is in `b` with the same value.
fn kept(a: &Value, b: &Value, at: &str) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let other = b.get(key).unwrap_or_else(|| panic!("unknown field {at}.{key}"));
                kept(value, other, &format!("{at}.{key}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            a.iter()
                .zip(b)
                .enumerate()
                .for_each(|(n, (a, b))| kept(a, b, &format!("{at}[{n}]")));
        }
        (a, b) => assert_eq!(a, b, "{at}"),
    }
}

#[test]
fn every_resource_of_the_kustomization_is_typed_and_has_no_unknown_field() {
    let [kustomization] = documents("kustomization.yaml").try_into().unwrap();
    let files: Vec<String> = serde_json::from_value(kustomization["resources"].clone()).unwrap();
    for document in files.iter().flat_map(|f| documents(f)) {
        let kind = document["kind"].as_str().unwrap();
        let typed = match kind {
            "Namespace" => round_trip::<Namespace>(&document),
            "ServiceAccount" => round_trip::<ServiceAccount>(&document),
            "ClusterRole" => round_trip::<ClusterRole>(&document),
            "ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(&document),
            "DaemonSet" => round_trip::<DaemonSet>(&document),
            other => panic!("{other} is not checked: add its type here"),
        };
        kept(&document, &typed, kind);
    }
}

#[test]
fn the_daemon_may_only_read_and_create_events() {
    let mut creates = 0;
    for document in documents("rbac.yaml")
        .iter()
        .filter(|d| d["kind"] == "ClusterRole")
    {
        let role: ClusterRole = serde_json::from_value(document.clone()).unwrap();
        for rule in role.rules.unwrap() {
            if rule.api_groups.as_deref() == Some(&["events.k8s.io".to_owned()][..]) {
                assert_eq!(rule.resources.as_deref(), Some(&["events".to_owned()][..]));
                assert_eq!(rule.verbs, ["create"]);
                creates += 1;
                continue;
            }
            assert!(
                rule.verbs
                    .iter()
                    .all(|v| ["get", "list", "watch"].contains(&v.as_str())),
                "{rule:?}"
            );
        }
    }
    assert_eq!(creates, 1);
}

/// The container's command line on a node with this address.
fn parsed(container: &Container, ip: &str) -> Cli {
    let args = container.args.iter().flatten();
    let args = args.map(|a| a.replace("$(POD_IP)", ip));
    Cli::try_parse_from(["zdt".to_owned()].into_iter().chain(args)).unwrap()
}

#[test]
fn the_daemon_takes_its_arguments_and_the_probes_ask_where_it_listens() {
    let [document] = documents("daemonset.yaml").try_into().unwrap();
    let daemon_set: DaemonSet = serde_json::from_value(document).unwrap();
    let template = daemon_set.spec.unwrap().template;
    let mut container = template.spec.unwrap().containers.remove(0);
    let text = fs::read_to_string(base("daemonset.yaml")).unwrap();
    // What a comment says to append.
    let more = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("# --otlp-endpoint, "))
        .unwrap();
    container
        .args
        .get_or_insert_default()
        .extend(["--otlp-endpoint", more].map(str::to_owned));
    for ip in ["10.0.0.7", "fd00::7"] {
        let Verb::Run(run) = parsed(&container, ip).verb else {
            panic!("the DaemonSet does not run `zdt run`")
        };
        assert!(run.events && run.otlp_endpoint.is_some());
        assert!(!run.guard.token_review && run.guard.tls().is_none());
        let listens = run.listen.unwrap();
        assert_eq!((listens.ip().to_string().as_str(), listens.port()), (ip, PORT));
    }
    let [port] = container.ports.unwrap().try_into().unwrap();
    assert_eq!(port.container_port, i32::from(PORT));
    let annotations = template.metadata.unwrap().annotations.unwrap();
    assert_eq!(annotations["prometheus.io/port"], PORT.to_string());
    for (probe, page) in [
        (container.readiness_probe, "/readyz"),
        (container.liveness_probe, "/healthz"),
    ] {
        let asked = probe.unwrap().http_get.unwrap();
        assert_eq!(asked.path.as_deref(), Some(page));
        let k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(name) = asked.port else {
            panic!("a probe by number")
        };
        assert_eq!(Some(name), port.name);
    }
}

#[test]
fn the_daemon_has_the_least_that_it_needs_and_runs_the_image_that_is_built() {
    let [document] = documents("daemonset.yaml").try_into().unwrap();
    let daemon_set: DaemonSet = serde_json::from_value(document).unwrap();
    let pod = daemon_set.spec.unwrap().template.spec.unwrap();
    // What it costs not to have it: `zdt doctor`.
    assert_eq!((pod.host_pid, pod.host_network), (Some(true), Some(true)));
    let [container] = pod.containers.try_into().unwrap();
    assert_eq!(
        container.image,
        Some(format!("zdt:{}", env!("CARGO_PKG_VERSION")))
    );
    let security = container.security_context.unwrap();
    assert_eq!(security.privileged, None);
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    let capabilities = security.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    // The lab runs every daemon with these (tests/lab/run/privileges.rs).
    assert_eq!(capabilities.add.unwrap(), ["BPF", "PERFMON", "NET_ADMIN"]);
    assert!(
        container
            .volume_mounts
            .unwrap()
            .iter()
            .all(|m| m.read_only == Some(true))
    );
}
