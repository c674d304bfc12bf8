//! A scenario's objects for a real cluster: the lab's, with an image and without what only the lab knows. Pure.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, Namespace, NodeAffinity, NodeSelector, NodeSelectorRequirement,
        NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext, Service,
        ServicePort, ServiceSpec,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{
    controllers::objects::app,
    run::{
        manifest::Applied,
        objects::{APP_PORT, CLIENT, SERVICE_PORT, WEB, client_args},
    },
    scenario::{Client, Family, Mode, Scenario},
};

/// As the image has it.
const PROGRAM: &str = "/zdt-lab";

pub(super) fn namespace(name: &str) -> Namespace {
    let part_of = ("app.kubernetes.io/part-of".to_owned(), "zdt-e2e".to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([part_of].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Where the workloads' pods may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Anywhere,
    On(&'a str),
    NotOn(&'a str),
}

/// The pods' template with the image.
pub(super) fn template(applied: &Applied, image: &str, place: Place<'_>) -> PodTemplateSpec {
    let mut template = applied.template();
    let pod = template.spec.get_or_insert_default();
    let containers = pod.containers.iter_mut();
    for container in containers.chain(pod.init_containers.iter_mut().flatten()) {
        container.image = Some(image.to_owned());
        container.command = Some(vec![PROGRAM.to_owned(), "app".to_owned()]);
        container.security_context = Some(restricted());
    }
    let wanted = match place {
        Place::Anywhere => None,
        Place::On(node) => Some(("In", node)),
        Place::NotOn(node) => Some(("NotIn", node)),
    };
    pod.affinity = wanted.map(|(operator, node)| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_expressions: Some(vec![NodeSelectorRequirement {
                        key: "kubernetes.io/hostname".to_owned(),
                        operator: operator.to_owned(),
                        values: Some(vec![node.to_owned()]),
                    }]),
                    ..NodeSelectorTerm::default()
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    });
    template
}

/// What the strictest Pod Security Standard asks for: a cluster may enforce it in every namespace.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        // "nonroot" of distroless images.
        run_as_user: Some(65_532),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

/// The Service `web`; the cluster gives its address.
pub(super) fn service(namespace: &str, scenario: &Scenario) -> Service {
    let port = |name: &str, protocol: &str, target| ServicePort {
        name: Some(name.to_owned()),
        port: SERVICE_PORT.into(),
        target_port: Some(target),
        protocol: Some(protocol.to_owned()),
        ..ServicePort::default()
    };
    let mut ports = vec![port("http", "TCP", IntOrString::String("http".to_owned()))];
    if scenario.client.mode == Mode::Udp {
        ports.push(port("datagrams", "UDP", IntOrString::Int(APP_PORT.into())));
    }
    let family = match scenario.network.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    Service {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(WEB.to_owned()),
            labels: Some(app(WEB)),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(app(WEB)),
            ports: Some(ports),
            ip_families: Some(vec![family.to_owned()]),
            ip_family_policy: Some("SingleStack".to_owned()),
            internal_traffic_policy: Some(scenario.service.internal_traffic_policy.word().to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The load client, on a node of its own choice: the ground truth goes to its log.
pub(super) fn client(settings: &Client, target: SocketAddr, seed: u64, image: &str, node: &str) -> Pod {
    let mut args = vec![PROGRAM.to_owned(), "client".to_owned()];
    args.extend(client_args(settings, target, seed, Path::new("-")));
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{CLIENT}-")),
            labels: Some(BTreeMap::from([("app".to_owned(), CLIENT.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            restart_policy: Some("Never".to_owned()),
            containers: vec![Container {
                name: CLIENT.to_owned(),
                image: Some(image.to_owned()),
                command: Some(args),
                security_context: Some(restricted()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{App, Workload};

    #[test]
    fn every_container_has_the_image_and_no_privilege() {
        let workload: Workload = serde_json::from_str(r#"{"sidecar": {"native": true}}"#).unwrap();
        let applied = Applied::new(WEB, &workload, &App::default());
        let pod = template(&applied, "lab:1", Place::NotOn("n2")).spec.unwrap();
        for container in pod.containers.iter().chain(pod.init_containers.as_ref().unwrap()) {
            assert_eq!(container.image.as_deref(), Some("lab:1"));
            assert_eq!(container.command.as_ref().unwrap(), &["/zdt-lab", "app"]);
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.run_as_non_root, Some(true));
        }
        let affinity = serde_json::to_string(&pod.affinity).unwrap();
        assert!(
            affinity.contains(r#""operator":"NotIn","values":["n2"]"#),
            "{affinity}"
        );
    }
}
