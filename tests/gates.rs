//! The manifests of the gate are what they look like: typed where Kubernetes has the type, and in what Argo Rollouts and Flagger
//! are told, every address, argument, parameter and answer is one that zdt has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{collections::BTreeMap, fs, path::Path};

use clap::Parser as _;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    batch::v1::JobSpec,
    core::v1::Service,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use zdt_daemon::{
    config::{Cli, PORT, Verb},
    report::Answer,
};

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split("\n---\n")
        .map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{file}: {e}")))
        .collect()
}

/// The typed object, which has lost no field on the way (a misspelt one would be).
fn typed<T: Serialize + DeserializeOwned>(document: &Value) -> T {
    let object: T = serde_json::from_value(document.clone()).unwrap();
    let back = serde_json::to_value(&object).unwrap();
    kept(document, &back, "");
    object
}

/// Every field of `a` is in `b`.
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
            a.iter().zip(b).for_each(|(a, b)| kept(a, b, at));
        }
        (a, b) => assert_eq!(a, b, "{at}"),
    }
}

fn gate() -> (Service, Deployment, Service) {
    let [nodes, gate, service] = documents("gates/gate.yaml").try_into().unwrap();
    (typed(&nodes), typed(&gate), typed(&service))
}

fn labels(of: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    of.unwrap()
}

/// Where the gate's own Service leads.
fn answers_here(url: &str) -> &str {
    let (_, _, service) = gate();
    let (name, namespace) = (
        service.metadata.name.unwrap(),
        service.metadata.namespace.unwrap(),
    );
    // The port of plain http is the service's.
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 80);
    let path = url.strip_prefix(&format!("http://{name}.{namespace}.svc/"));
    let path = path.unwrap_or_else(|| panic!("{url} is not {name}.{namespace}"));
    let (path, query) = path.split_once('?').unwrap();
    assert_eq!(path, "api/v1/gate");
    for pair in query.split('&') {
        let name = pair.split('=').next().unwrap();
        assert!(
            ["workload", "namespace", "to", "since", "budget", "over"].contains(&name),
            "{pair}"
        );
    }
    query
}

fn command(args: &[String]) -> Verb {
    Cli::try_parse_from(["zdt".to_owned()].into_iter().chain(args.iter().cloned()))
        .unwrap()
        .verb
}

#[test]
fn gate_asks_every_node_and_is_reached_by_its_service() {
    let (nodes, gate, service) = gate();
    let [daemon_set] = documents("base/daemonset.yaml").try_into().unwrap();
    let daemon_set: DaemonSet = serde_json::from_value(daemon_set).unwrap();
    let daemon = daemon_set.spec.unwrap().template;
    let spec = nodes.spec.unwrap();
    assert_eq!(labels(spec.selector), labels(daemon.metadata.unwrap().labels));
    // All of them, also one that is not ready: left out, it would be taken for fine.
    assert_eq!(
        (spec.cluster_ip.as_deref(), spec.publish_not_ready_addresses),
        (Some("None"), Some(true))
    );

    let template = gate.spec.unwrap().template;
    let own = labels(template.metadata.unwrap().labels);
    assert_eq!(labels(service.spec.unwrap().selector), own);
    assert_ne!(
        own,
        labels(daemon_set.metadata.labels),
        "the nodes' service must not lead to the gate"
    );
    let pod = template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    let [container] = pod.containers.try_into().unwrap();
    assert_eq!(container.image, daemon.spec.unwrap().containers[0].image);
    let args: Vec<String> = container
        .args
        .unwrap()
        .iter()
        .map(|a| a.replace("$(POD_IP)", "10.0.0.7"))
        .collect();
    let Verb::ServeGate(serves) = command(&args) else {
        panic!("it does not run `zdt serve-gate`")
    };
    assert_eq!(serves.listen.port(), PORT);
    assert_eq!(container.ports.unwrap()[0].container_port, i32::from(PORT));
    let asks: Vec<String> = serves.servers.iter().map(ToString::to_string).collect();
    assert_eq!(asks, [nodes_url()]);
}

fn nodes_url() -> String {
    let (nodes, _, _) = gate();
    let (name, namespace) = (nodes.metadata.name.unwrap(), nodes.metadata.namespace.unwrap());
    format!("http://{name}.{namespace}.svc:{PORT}")
}

#[test]
fn argo_rollouts_passes_only_what_the_gate_passes() {
    let [during, after] = documents("gates/argo-rollouts.yaml").try_into().unwrap();
    for template in [&during, &after] {
        assert_eq!(
            (&template["apiVersion"], &template["kind"]),
            (&"argoproj.io/v1alpha1".into(), &"AnalysisTemplate".into())
        );
        let args: Vec<&str> = template["spec"]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["name"].as_str().unwrap())
            .collect();
        let text = template["spec"]["metrics"].to_string();
        let used = text
            .split("{{args.")
            .skip(1)
            .map(|t| t.split("}}").next().unwrap());
        used.for_each(|used| assert!(args.contains(&used), "{used} is no argument"));
    }
    let metric = &during["spec"]["metrics"][0];
    answers_here(metric["provider"]["web"]["url"].as_str().unwrap());
    let word = |answer: Answer| format!("result.answer == {}", serde_json::to_string(&answer).unwrap());
    // Argo has no condition for what is not known: it is an error of the measurement by its status.
    assert_eq!(
        metric["successCondition"],
        format!("{} || {}", word(Answer::Kept), word(Answer::UnderWay))
    );
    assert_eq!(metric["failureCondition"], word(Answer::Lost));
    assert_eq!(metric["failureLimit"], 0);

    let job: JobSpec = typed(&after["spec"]["metrics"][0]["provider"]["job"]["spec"]);
    // A second try would ask again until it gets what it wants.
    assert_eq!(job.backoff_limit, Some(0));
    let [container] = job.template.spec.unwrap().containers.try_into().unwrap();
    let Verb::Gate(asks) = command(&container.args.unwrap()) else {
        panic!("it does not run `zdt gate`")
    };
    assert_eq!((asks.budget, asks.of.servers[0].to_string()), (0, nodes_url()));
}

#[test]
fn flagger_posts_to_the_gate() {
    let [canary] = documents("gates/flagger.yaml").try_into().unwrap();
    assert_eq!(
        (&canary["apiVersion"], &canary["kind"]),
        (&"flagger.app/v1beta1".into(), &"Canary".into())
    );
    let hook = &canary["spec"]["analysis"]["webhooks"][0];
    assert_eq!(hook["type"], "post-rollout");
    answers_here(hook["url"].as_str().unwrap());
    // All metadata are strings there.
    let metadata: BTreeMap<String, String> = serde_json::from_value(hook["metadata"].clone()).unwrap();
    assert!(
        metadata
            .keys()
            .all(|k| ["workload", "budget"].contains(&k.as_str())),
        "{metadata:?}"
    );
    assert!(metadata["workload"].starts_with("deployment/") && metadata["budget"].parse::<usize>().is_ok());
}
