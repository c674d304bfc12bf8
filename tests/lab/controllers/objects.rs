//! Workloads and services as a scenario asks for them, with the defaults that the API server would fill in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, RollingUpdateStatefulSetStrategy, StatefulSet,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(app(name)),
        ..ObjectMeta::default()
    }
}

/// The label by which a service finds the pods of the deployment of the same name.
pub fn app(name: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), name.to_owned())].into()
}

/// A Deployment whose pods are `app=<name>`. The strategy is Kubernetes' default (rolling, 25 % and 25 %) until the
/// caller sets another in `spec.strategy`.
pub fn deployment(namespace: &str, name: &str, replicas: i32, mut template: PodTemplateSpec) -> Deployment {
    template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default()
        .extend(app(name));
    let spec = DeploymentSpec {
        replicas: Some(replicas),
        selector: LabelSelector {
            match_labels: Some(app(name)),
            ..LabelSelector::default()
        },
        template,
        ..DeploymentSpec::default()
    };
    Deployment {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}

fn labelled(name: &str, mut template: PodTemplateSpec) -> (LabelSelector, PodTemplateSpec) {
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.extend(app(name));
    let selector = LabelSelector {
        match_labels: Some(app(name)),
        ..LabelSelector::default()
    };
    (selector, template)
}

/// A StatefulSet behind the service of its name; `partition` as in its update strategy.
pub fn stateful_set(
    namespace: &str,
    name: &str,
    replicas: i32,
    partition: i32,
    min_ready_s: i32,
    template: PodTemplateSpec,
) -> StatefulSet {
    let (selector, template) = labelled(name, template);
    let spec = StatefulSetSpec {
        replicas: Some(replicas),
        selector,
        template,
        service_name: Some(name.to_owned()),
        min_ready_seconds: Some(min_ready_s),
        pod_management_policy: Some("OrderedReady".to_owned()),
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateStatefulSetStrategy {
                partition: Some(partition),
                ..RollingUpdateStatefulSetStrategy::default()
            }),
        }),
        ..StatefulSetSpec::default()
    };
    StatefulSet {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}

/// A DaemonSet with the default update strategy: maxUnavailable 1, maxSurge 0.
pub fn daemon_set(namespace: &str, name: &str, template: PodTemplateSpec) -> DaemonSet {
    let (selector, template) = labelled(name, template);
    let spec = DaemonSetSpec {
        selector,
        template,
        ..DaemonSetSpec::default()
    };
    DaemonSet {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}

/// A Job of `completions` pods that run side by side.
pub fn job(namespace: &str, name: &str, completions: i32, template: PodTemplateSpec) -> Job {
    let (_, mut template) = labelled(name, template);
    template.spec.get_or_insert_default().restart_policy = Some("Never".to_owned());
    let spec = JobSpec {
        completions: Some(completions),
        parallelism: Some(completions),
        backoff_limit: Some(6),
        template,
        ..JobSpec::default()
    };
    Job {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}

/// A pod of `template` that nobody owns, labelled `app=<workload>`.
pub fn bare_pod(namespace: &str, workload: &str, name: &str, template: &PodTemplateSpec) -> Pod {
    let (_, template) = labelled(workload, template.clone());
    super::pods::from_template(&template, namespace, name.to_owned(), None)
}

/// A pod of one container that listens on `port` (named `http`). Probes, lifecycle and grace are the caller's to add.
pub fn pod_template(container: &str, image: &str, port: u16) -> PodTemplateSpec {
    let container = Container {
        name: container.to_owned(),
        image: Some(image.to_owned()),
        ports: Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: port.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        termination_grace_period_seconds: Some(30),
        restart_policy: Some("Always".into()),
        ..PodSpec::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(spec),
    }
}

/// A Service in front of the pods `app=<name>`: ClusterIP, or NodePort when a port is given. `target_port`: a number or
/// the name of a container port.
pub fn service(
    namespace: &str,
    name: &str,
    cluster_ip: IpAddr,
    port: u16,
    target_port: IntOrString,
    node_port: Option<u16>,
) -> Service {
    let family = if cluster_ip.is_ipv6() { "IPv6" } else { "IPv4" };
    let spec = ServiceSpec {
        type_: Some(
            if node_port.is_some() {
                "NodePort"
            } else {
                "ClusterIP"
            }
            .to_owned(),
        ),
        cluster_ip: Some(cluster_ip.to_string()),
        cluster_ips: Some(vec![cluster_ip.to_string()]),
        ip_families: Some(vec![family.to_owned()]),
        ip_family_policy: Some("SingleStack".into()),
        selector: Some(app(name)),
        session_affinity: Some("None".into()),
        internal_traffic_policy: Some("Cluster".into()),
        external_traffic_policy: node_port.map(|_| "Cluster".to_owned()),
        ports: Some(vec![ServicePort {
            name: Some("http".into()),
            port: port.into(),
            target_port: Some(target_port),
            node_port: node_port.map(i32::from),
            protocol: Some("TCP".into()),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    };
    Service {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}
