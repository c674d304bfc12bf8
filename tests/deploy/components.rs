//! The optional parts of the deployment: what they make of the DaemonSet, and what they let zdt do.

use k8s_openapi::api::{apps::v1::DaemonSet, rbac::v1::ClusterRole};
use serde_json::Value;
use zdt_daemon::config::Verb;

use super::{documents, kept, parsed, round_trip};

/// The DaemonSet with the component's patches (RFC 6902; they only add).
fn patched(component: &str, mut daemon_set: Value) -> Value {
    let [kustomization] = documents(&format!("../components/{component}/kustomization.yaml"))
        .try_into()
        .unwrap();
    assert_eq!(kustomization["kind"], "Component");
    for patch in kustomization["patches"].as_array().unwrap() {
        assert_eq!(patch["target"]["name"], daemon_set["metadata"]["name"]);
        let operations: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        for operation in operations {
            assert_eq!(operation["op"], "add");
            let (parent, last) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
            let parent = daemon_set
                .pointer_mut(parent)
                .unwrap_or_else(|| panic!("no {parent}"));
            match parent {
                Value::Array(all) if last == "-" => all.push(operation["value"].clone()),
                Value::Object(fields) => {
                    fields.insert(last.to_owned(), operation["value"].clone());
                }
                other => panic!("{last} cannot be added to {other}"),
            }
        }
    }
    daemon_set
}

#[test]
fn components_give_a_daemon_set_whose_arguments_zdt_takes() {
    let [base] = documents("daemonset.yaml").try_into().unwrap();
    let both = patched("token-review", patched("tls", base));
    kept(&both, &round_trip::<DaemonSet>(&both), "DaemonSet");
    let daemon_set: DaemonSet = serde_json::from_value(both).unwrap();
    let pod = daemon_set.spec.unwrap().template.spec.unwrap();
    let [container] = pod.containers.try_into().unwrap();
    let Verb::Run(run) = parsed(&container, "10.0.0.7").verb else {
        panic!("the DaemonSet does not run `zdt run`")
    };
    assert!(run.guard.token_review);
    let (cert, key) = run.guard.tls().unwrap();
    let mount = container
        .volume_mounts
        .unwrap()
        .into_iter()
        .find(|m| m.name == "tls")
        .unwrap();
    assert_eq!(mount.read_only, Some(true));
    for file in [cert, key] {
        assert!(file.starts_with(&mount.mount_path), "{}", file.display());
    }
    let volume = pod
        .volumes
        .unwrap()
        .into_iter()
        .find(|v| v.name == "tls")
        .unwrap();
    assert_eq!(volume.secret.unwrap().secret_name.as_deref(), Some("zdt-tls"));
    for probe in [container.readiness_probe, container.liveness_probe] {
        assert_eq!(probe.unwrap().http_get.unwrap().scheme.as_deref(), Some("HTTPS"));
    }
}

#[test]
fn token_review_may_make_two_reviews_and_the_reader_may_read() {
    let mut asked = Vec::new();
    for document in documents("../components/token-review/rbac.yaml") {
        if document["kind"] != "ClusterRole" {
            continue;
        }
        kept(&document, &round_trip::<ClusterRole>(&document), "ClusterRole");
        let role: ClusterRole = serde_json::from_value(document).unwrap();
        for rule in role.rules.unwrap() {
            match role.metadata.name.as_deref() {
                Some("zdt-token-review") => {
                    assert_eq!(rule.verbs, ["create"]);
                    asked.extend(rule.resources.unwrap());
                }
                Some("zdt-reader") => {
                    assert_eq!(
                        rule.non_resource_urls.as_deref(),
                        Some(&["/api/v1/*".to_owned()][..])
                    );
                    assert_eq!(
                        (rule.verbs, rule.resources),
                        (vec!["get".to_owned(), "post".to_owned()], None)
                    );
                }
                other => panic!("{other:?} is not checked"),
            }
        }
    }
    assert_eq!(asked, ["tokenreviews", "subjectaccessreviews"]);
}

#[test]
fn before_5_11_one_capability_more_raises_the_limit_of_locked_memory() {
    let [base] = documents("daemonset.yaml").try_into().unwrap();
    let patched = patched("before-5.11", base);
    kept(&patched, &round_trip::<DaemonSet>(&patched), "DaemonSet");
    let capabilities =
        &patched["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"];
    let wanted = serde_json::json!({"drop": ["ALL"], "add": ["BPF", "PERFMON", "NET_ADMIN", "SYS_RESOURCE"]});
    assert_eq!(capabilities, &wanted);
}
