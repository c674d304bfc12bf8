//! A scenario's Kubernetes objects: Service `shop/web` and pod `shop/client`; manifest.rs has the workloads.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, Service, ServicePort},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::ingress::{INGRESS, PROXY};
use crate::{
    controllers,
    net::Addresses,
    scenario::{Client, Family, Mode, Scenario, Step},
};

pub(super) const NAMESPACE: &str = "shop";
pub(crate) const WEB: &str = "web";
pub(crate) const CLIENT: &str = "client";
/// Port of the server's container.
pub(crate) const APP_PORT: u16 = 8080;
pub(crate) const SERVICE_PORT: u16 = 80;
/// The first port of kube-apiserver's default `--service-node-port-range` 30000-32767.
pub(super) const NODE_PORT: u16 = 30000;
/// The proxy's.
pub(super) const PROXY_NODE_PORT: u16 = 30001;

/// The Service's host in the world's service network; the proxy's, and those of the other backends that it may be given, follow.
const SERVICE_HOST: u8 = 10;

pub(super) fn service_addr(addresses: Addresses, family: Family) -> SocketAddr {
    nth_service_addr(addresses, family, 0)
}

fn nth_service_addr(addresses: Addresses, family: Family, n: u8) -> SocketAddr {
    let host = SERVICE_HOST.saturating_add(n);
    SocketAddr::new(addresses.service(host, family == Family::V6), SERVICE_PORT)
}

/// The Service of the proxy.
pub(super) fn proxy_service(scenario: &Scenario, addresses: Addresses) -> Service {
    let ip = proxy_addr(addresses, scenario.network.family).ip();
    let target = IntOrString::String("http".to_owned());
    controllers::service(INGRESS, PROXY, ip, SERVICE_PORT, target, Some(PROXY_NODE_PORT))
}

pub(super) fn proxy_addr(addresses: Addresses, family: Family) -> SocketAddr {
    nth_service_addr(addresses, family, 1)
}

/// The workloads that the proxy may be told to send everything to, with the addresses of their Services.
pub(super) fn backends(scenario: &Scenario, addresses: Addresses) -> BTreeMap<String, SocketAddr> {
    let family = scenario.network.family;
    let others = scenario.actions.iter().filter_map(|action| match &action.what {
        Step::SwitchBackend(to) if to != WEB => Some(to.clone()),
        _ => None,
    });
    let others = others
        .zip(2..)
        .map(|(to, n)| (to, nth_service_addr(addresses, family, n)));
    [(WEB.to_owned(), service_addr(addresses, family))]
        .into_iter()
        .chain(others)
        .collect()
}

/// The Service of another backend.
pub(super) fn backend_service(name: &str, addr: SocketAddr) -> Service {
    let target = IntOrString::String("http".to_owned());
    controllers::service(NAMESPACE, name, addr.ip(), SERVICE_PORT, target, None)
}

pub(super) fn service(scenario: &Scenario, addresses: Addresses) -> Service {
    let ip = service_addr(addresses, scenario.network.family).ip();
    let target = IntOrString::String("http".to_owned());
    let mut service = controllers::service(NAMESPACE, WEB, ip, SERVICE_PORT, target, Some(NODE_PORT));
    let spec = service.spec.get_or_insert_default();
    spec.external_traffic_policy = Some(scenario.service.external_traffic_policy.word().to_owned());
    spec.internal_traffic_policy = Some(scenario.service.internal_traffic_policy.word().to_owned());
    if scenario.client.mode == Mode::Udp {
        // Protocols are numbered apart: the same numbers again.
        spec.ports.get_or_insert_default().push(ServicePort {
            name: Some("datagrams".to_owned()),
            port: SERVICE_PORT.into(),
            target_port: Some(IntOrString::Int(APP_PORT.into())),
            node_port: Some(NODE_PORT.into()),
            protocol: Some("UDP".to_owned()),
            ..ServicePort::default()
        });
    }
    service
}

/// The load client's switches. It writes the ground truth to `truth`.
pub(crate) fn client_args(c: &Client, target: SocketAddr, seed: u64, truth: &Path) -> Vec<String> {
    let mode = match c.mode {
        Mode::Short => "short",
        Mode::Keepalive => "keepalive",
        Mode::Udp => "udp",
    };
    let mut args = words(&[
        ("--target", target.to_string()),
        ("--rate", c.rate.to_string()),
        ("--seconds", c.seconds.to_string()),
        ("--timeout-ms", c.timeout_ms.to_string()),
        ("--mode", mode.to_owned()),
        ("--connections", c.connections.to_string()),
        ("--seed", seed.to_string()),
        ("--truth", truth.display().to_string()),
        ("--send-delay-ms", c.send_delay_ms.to_string()),
    ]);
    if c.stale_pool {
        args.push("--stale-pool".to_owned());
    }
    if c.head {
        args.push("--head".to_owned());
    }
    if let Some(ms) = c.abort_after_ms {
        args.extend(words(&[
            ("--abort-after-ms", ms.to_string()),
            ("--abort-share", c.abort_share.to_string()),
        ]));
    }
    if let Some(ports) = c.source_ports {
        args.extend(words(&[("--source-ports", ports.to_string())]));
    }
    args
}

/// A load client: a bare pod on `node` (the lab's containers see the machine's files).
pub(super) fn client(name: &str, node: &str, args: Vec<String>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(controllers::objects::app(name)),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            restart_policy: Some("Never".to_owned()),
            containers: vec![Container {
                name: name.to_owned(),
                image: Some("zdt-lab".to_owned()),
                command: Some(vec!["zdt-lab".to_owned(), "client".to_owned()]),
                args: Some(args),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn words(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(name, value)| [(*name).to_owned(), value.clone()])
        .collect()
}
