//! Tests of the schema.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::api::fault::{Asked, Fault};

const LEAST: &str = "name: a\ndescription: b\n";

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(Path::new("x.yaml"), text)
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_name_and_a_description_are_a_scenario() {
    let s = parse(LEAST).unwrap();
    assert_eq!(s.workload, Workload::default());
    assert_eq!(s.expect.causes, None);
    assert_eq!(s.network.min_sync_period_ms, 1000, "kube-proxy's default");
}

#[test]
fn every_kind_of_field_is_read() {
    let s = parse(
        "name: a\ndescription: b\nworkload: {pre_stop_sleep_s: 3, readiness: none}\nclient: {via: node-port, mode: keepalive}\n\
         network: {family: v6, backend: iptables-legacy}\napp: {on_sigterm: close-listener}\n\
         actions:\n  - {at_ms: 10, do: rolling-update}\n  - {at_ms: 20, do: {scale: 2}}\n\
         \x20 - {at_ms: 30, do: {apply: {app: {crash_after_ms: 500}}}, on: db}\n\
         beside:\n  - {name: db, workload: {kind: stateful-set}}\n\
         expect: {failed: {min: 1}, causes: {pod-ip-gone: {outcomes: [timed-out], min_share: 0.5}}}\n",
    )
    .unwrap();
    assert_eq!(s.workload.pre_stop_sleep_s, Some(3));
    assert_eq!(s.actions[1].what, Step::Scale(2));
    assert_eq!(s.actions[2].on.as_deref(), Some("db"));
    let Step::Apply(manifest) = &s.actions[2].what else {
        panic!("{:?}", s.actions[2].what)
    };
    assert_eq!(manifest.workload, None);
    assert_eq!(manifest.app.as_ref().unwrap().crash_after_ms, Some(500));
    assert_eq!(s.workload.readiness, None);
    assert_eq!(s.expect.is_right("pod-ip-gone", Outcome::TimedOut), Some(true));
    assert_eq!(s.expect.is_right("pod-ip-gone", Outcome::Refused), Some(false));
    assert_eq!(
        s.expect.is_right("immediate-exit", Outcome::TimedOut),
        Some(false)
    );
    assert!(s.expect.failed.contains(7) && !s.expect.failed.contains(0));
}

#[test]
fn an_unknown_field_is_an_error_that_names_file_line_and_what_is_allowed() {
    let e = error("name: a\ndescription: b\nclient:\n  rate: 5\n  speed: 7\n");
    assert!(e.contains("x.yaml:5:"), "{e}");
    assert!(e.contains("speed") && e.contains("timeout_ms"), "{e}");
}

#[test]
fn an_unknown_word_is_an_error_that_names_the_allowed_ones() {
    let e = error("name: a\ndescription: b\nclient: {via: pigeon}\n");
    assert!(e.contains("x.yaml:3:"), "{e}");
    assert!(e.contains("pigeon") && e.contains("cluster-ip"), "{e}");
}

#[test]
fn a_value_out_of_bounds_is_an_error_that_names_file_line_and_bounds() {
    let e = error("name: a\ndescription: b\nclient:\n  rate: 5\n  abort_share: 1.5\n");
    assert!(
        e.contains("x.yaml:5: client.abort_share is 1.5; allowed: 0 to 1"),
        "{e}"
    );
    let e = error("name: a\ndescription: b\nworkload: {max_surge: 0}\n");
    assert!(e.contains("x.yaml:3: workload.max_surge is 0"), "{e}");
    let e = error("name: A b\ndescription: b\n");
    assert!(e.contains("x.yaml:1: name is A b"), "{e}");
}

#[test]
fn what_cannot_be_done_to_a_workload_is_an_error() {
    let with = |rest: &str| format!("name: a\ndescription: b\n{rest}");
    for (text, expected) in [
        (
            "workload: {kind: pods}\nactions: [{at_ms: 1, do: rolling-update}]\n",
            "actions.do is Pods",
        ),
        (
            "actions: [{at_ms: 1, do: evict-pod, on: db}]\n",
            "actions.on is db",
        ),
        (
            "actions: [{at_ms: 1, do: {switch-selector: green}}]\n",
            "actions.do is green",
        ),
        ("app: {oom_after_ms: 5}\n", "workload.memory_limit_mib is absent"),
        (
            "workload: {stop_signal: SIGNONE}\n",
            "workload.stop_signal is SIGNONE",
        ),
        (
            "workload: {pre_stop_sleep_s: 1, pre_stop_exec: [sleep, '1']}\n",
            "allowed: one preStop hook",
        ),
        ("topology: {nodes: 9}\n", "topology.nodes is 9"),
        ("client: {place: other-node}\n", "client.place is other-node"),
        ("client: {place: outside}\n", "client.place is outside"),
        ("topology: {nodes: 2, pods_on: [3]}\n", "topology.pods_on is [3]"),
        (
            "client: {via: node-port, dial_node: 2}\n",
            "client.dial_node is 2",
        ),
        (
            "client: {mode: keepalive, source_ports: 3}\n",
            "client.source_ports is 3",
        ),
        ("workload: {readiness: nope}\n", "a probe's settings, or `none`"),
        ("beside: [{name: web}]\n", "beside.name is web"),
        (
            "actions: [{at_ms: 1, do: {apply: {workload: {kind: job}}}}]\n",
            "allowed: the same kind",
        ),
    ] {
        let e = error(&with(text));
        assert!(e.contains(expected), "{text}: {e}");
    }
}

#[test]
fn actions_must_be_in_order_and_while_the_client_runs() {
    let e = error("name: a\ndescription: b\nactions:\n  - {at_ms: 99999, do: rolling-update}\n");
    assert!(e.contains("x.yaml:4: actions.at_ms is 99999"), "{e}");
    let two =
        "name: a\ndescription: b\nactions:\n  - {at_ms: 9, do: delete-pod}\n  - {at_ms: 8, do: delete-pod}\n";
    assert!(error(two).contains("not before"), "{}", error(two));
}

#[test]
fn text_that_is_no_yaml_and_an_empty_file_are_errors_not_panics() {
    for text in ["", "]", "name: [", "\u{0}", "- a\n- b\n"] {
        let e = error(text);
        assert!(e.starts_with("x.yaml:"), "{text:?}: {e}");
    }
}

#[test]
fn the_documentation_names_every_field_and_word() {
    let doc = include_str!("../../scenarios/README.md");
    let mut full = parse(LEAST).unwrap();
    full.actions = [
        Step::RollingUpdate,
        Step::Recreate,
        Step::Replace,
        Step::Apply(Box::default()),
        Step::Scale(1),
        Step::Autoscale(1),
        Step::DeletePod,
        Step::ForceDeletePod,
        Step::EvictPod,
        Step::PreemptPod,
        Step::RestartContainer,
        Step::DrainNode,
        Step::CordonNode,
        Step::UncordonNode,
        Step::ReloadProxy,
        Step::SwitchBackend("x".to_owned()),
        Step::SwitchSelector("x".to_owned()),
        Step::Api(ApiFault {
            fault: Fault::Hang,
            for_ms: 1,
            to: Asked::default(),
        }),
        Step::RestartDaemon(Restart {
            signal: Ending::Sigkill,
            away_ms: 0,
        }),
        Step::PauseDaemon(1),
    ]
    .map(|what| Action {
        at_ms: 0,
        what,
        on: None,
    })
    .into();
    full.workload.sidecar = Some(Sidecar::default());
    full.proxy = Some(Proxy::default());
    full.beside.push(Beside {
        name: "x".to_owned(),
        workload: Workload::default(),
        app: App::default(),
    });
    full.expect.causes = Some([("x".to_owned(), ExpectedCause::default())].into());
    let json = serde_json::to_value(&full).unwrap();
    let mut names = Vec::new();
    keys(&json, &mut names);
    for words in [
        "exit close-listener drain-first stall-first half-close ignore short keepalive udp",
        "cluster-ip node-port pod-ip same-node other-node outside Cluster Local v4 v6 iptables-nft iptables-legacy nftables",
        "rolling-update recreate replace apply scale autoscale delete-pod force-delete-pod evict-pod preempt-pod",
        "restart-container drain-node cordon-node uncordon-node switch-selector reload-proxy switch-backend",
        "refuse hang gone too-many-requests internal-error close-watches forget-history both list watch",
        "sigterm sigkill",
        "nginx haproxy",
        "deployment stateful-set daemon-set job pods none",
    ] {
        names.extend(words.split(' ').map(String::from));
    }
    for name in names.iter().filter(|n| *n != "x") {
        assert!(
            doc.contains(&format!("`{name}`")),
            "tests/scenarios/README.md does not explain `{name}`"
        );
    }
}

fn keys(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map {
                into.push(key.clone());
                keys(inner, into);
            }
        }
        serde_json::Value::Array(all) => all.iter().for_each(|v| keys(v, into)),
        _ => {}
    }
}

#[test]
fn the_scenarios_of_this_repository_are_valid_and_named_as_their_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut suites = 0;
    for suite in std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        suites += 1;
        for file in std::fs::read_dir(&suite).unwrap().map(|e| e.unwrap().path()) {
            let s = Scenario::read(&file).unwrap();
            assert_eq!(Some(s.name.as_str()), file.file_stem().and_then(|n| n.to_str()));
        }
    }
    assert!(suites > 0);
}

/// Real ones, to be bent.
fn written() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/core");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .take(12)
        .map(|f| std::fs::read_to_string(f).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn any_text_is_a_scenario_or_an_error_that_names_the_file(
        which in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), any::<Index>(), prop_oneof!["[-:{}&*!|>%@ \\[\\]\"'a-z0-9\n]{0,6}", ".{0,3}"]), 0..12),
    ) {
        let all = written();
        let mut text: Vec<char> = which.get(&all).chars().collect();
        for (from, length, instead) in edits {
            let from = from.index(text.len() + 1);
            let to = (from + length.index(12)).min(text.len());
            text.splice(from..to, instead.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(refused) = parse(&text) {
            prop_assert!(refused.to_string().contains("x.yaml"), "{}", refused);
        }
    }
}
