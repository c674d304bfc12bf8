//! Endpoint slices and services as the API has them, cut down to what zdt uses.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::owners::{label, ns_name};
use crate::input::{EndpointState, PodUid, ServicePort, ServiceState, SlicePort, SliceState};

/// Translates an endpoint slice. A slice of host names (addressType FQDN) has no addresses here.
pub fn slice_state(slice: &EndpointSlice) -> SliceState {
    SliceState {
        slice: ns_name(&slice.metadata),
        service: label(&slice.metadata, "kubernetes.io/service-name").unwrap_or_default(),
        ports: slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                Some(SlicePort {
                    name: p.name.clone().unwrap_or_default(),
                    // No port means all ports: nothing that a connection could be matched with.
                    port: u16::try_from(p.port?).ok()?,
                    protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                })
            })
            .collect(),
        endpoints: slice.endpoints.iter().map(endpoint).collect(),
    }
}

fn endpoint(endpoint: &Endpoint) -> EndpointState {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // What a missing condition means is in discovery/v1: no `ready` is ready, no `serving` follows `ready`, no
    // `terminating` is not terminating.
    let ready = conditions.ready.unwrap_or(true);
    EndpointState {
        addrs: endpoint.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        pod: endpoint
            .target_ref
            .as_ref()
            .filter(|t| t.kind.as_deref() == Some("Pod"))
            .and_then(|t| Some((PodUid(t.uid.as_deref()?.into()), t.name.clone()?))),
        node: endpoint.node_name.clone(),
    }
}

/// Translates a service. A headless one has no addresses: its clients dial the pods.
pub fn service_state(service: &Service) -> ServiceState {
    let spec = service.spec.as_ref();
    let status = service.status.as_ref();
    let cluster = spec
        .into_iter()
        .flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip));
    let external = spec
        .into_iter()
        .flat_map(|s| s.external_ips.iter().flatten().chain(&s.load_balancer_ip));
    let balancer = status
        .and_then(|s| s.load_balancer.as_ref())
        .into_iter()
        .flat_map(|b| b.ingress.iter().flatten())
        .filter_map(|i| i.ip.as_ref());
    let mut vips: Vec<IpAddr> = Vec::new();
    // `None` (headless) and host names do not parse.
    for ip in cluster
        .chain(external)
        .chain(balancer)
        .filter_map(|ip| ip.parse().ok())
    {
        if !vips.contains(&ip) {
            vips.push(ip);
        }
    }
    ServiceState {
        service: ns_name(&service.metadata),
        vips,
        ports: spec
            .into_iter()
            .flat_map(|s| s.ports.iter().flatten())
            .filter_map(|p| {
                Some(ServicePort {
                    name: p.name.clone().unwrap_or_default(),
                    port: u16::try_from(p.port).ok()?,
                    node_port: p.node_port.and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
                    protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                })
            })
            .collect(),
        selector: spec.and_then(|s| s.selector.clone()).unwrap_or_default(),
        external_local: spec.is_some_and(|s| s.external_traffic_policy.as_deref() == Some("Local")),
        internal_local: spec.is_some_and(|s| s.internal_traffic_policy.as_deref() == Some("Local")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a real cluster, in the middle of a rolling update.
    #[test]
    fn slice_of_a_rolling_update_is_read_whole() {
        let slice = slice_state(
            &serde_json::from_str(include_str!("../../tests/fixtures/endpointslice-rolling.json")).unwrap(),
        );
        assert_eq!(slice.slice.to_string(), "default/web-lkj88");
        assert_eq!(slice.service, "web");
        assert_eq!(slice.ports.iter().map(|p| p.port).collect::<Vec<_>>(), [8080]);
        let seen: Vec<_> = slice
            .endpoints
            .iter()
            .map(|e| {
                (
                    e.addrs[0].to_string(),
                    e.ready,
                    e.serving,
                    e.terminating,
                    e.pod.as_ref().unwrap().1.as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "10.244.0.30".to_owned(),
                    true,
                    true,
                    false,
                    "web-869f68cb96-dxqhx"
                ),
                (
                    "10.244.1.25".to_owned(),
                    true,
                    true,
                    false,
                    "web-869f68cb96-52hts"
                ),
                (
                    "10.244.0.31".to_owned(),
                    false,
                    true,
                    true,
                    "web-869f68cb96-zx8tn"
                ),
                ("10.244.1.26".to_owned(), true, true, false, "web-f69fb6c58-28tjj"),
            ]
        );
    }

    #[test]
    fn missing_conditions_mean_ready() {
        let slice = slice_state(
            &serde_json::from_str(r#"{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}]}"#)
                .unwrap(),
        );
        let e = &slice.endpoints[0];
        assert!(e.ready && e.serving && !e.terminating);
    }

    #[test]
    fn node_port_and_all_addresses_of_a_service_are_seen() {
        let service = service_state(
            &serde_json::from_str(
                r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.80",
                "clusterIPs":["10.96.0.80","fd00::80"],"externalIPs":["192.0.2.1"],
                "ports":[{"port":80,"nodePort":30080}]},
                "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2"},{"hostname":"lb.example"}]}}}"#,
            )
            .unwrap(),
        );
        let vips: Vec<_> = service.vips.iter().map(ToString::to_string).collect();
        assert_eq!(vips, ["10.96.0.80", "fd00::80", "192.0.2.1", "192.0.2.2"]);
        assert_eq!((service.ports[0].port, service.ports[0].node_port), (80, 30080));
    }

    #[test]
    fn each_local_policy_is_seen_and_cluster_is_the_default() {
        let policies = |spec: &str| {
            let service = service_state(&serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap());
            (service.external_local, service.internal_local)
        };
        assert_eq!(policies(r#"{"externalTrafficPolicy":"Local"}"#), (true, false));
        assert_eq!(policies(r#"{"internalTrafficPolicy":"Local"}"#), (false, true));
        assert_eq!(policies("{}"), (false, false));
    }

    #[test]
    fn headless_service_has_no_addresses() {
        let service = service_state(
            &serde_json::from_str(r#"{"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#).unwrap(),
        );
        assert!(service.vips.is_empty());
    }
}
