//! From services and endpoint slices to what kube-proxy routes: which endpoints each service port has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

/// Address family of one proxier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Namespace and name.
pub(super) type Key = (String, String);

/// One endpoint as one slice has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    ip: IpAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    node: Option<String>,
}

/// One slice: port name to number, and endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slice {
    service: Key,
    ports: BTreeMap<String, u16>,
    endpoints: Vec<Endpoint>,
}

/// What kube-proxy knows of the cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, Slice>,
}

/// One port of one service with the endpoints it is routed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServicePort {
    pub service: Key,
    /// `namespace/name` or `namespace/name:port`
    pub name: String,
    /// Empty where the Service has one port.
    pub port_name: String,
    /// Lower case.
    pub protocol: String,
    pub cluster_ips: Vec<IpAddr>,
    pub port: u16,
    pub node_port: Option<u16>,
    pub external_local: bool,
    pub internal_local: bool,
    /// Usable by any node's clients: the ready ones, else those that serve while they terminate.
    pub cluster: Vec<SocketAddr>,
    /// The same among this node's.
    pub local: Vec<SocketAddr>,
    /// Those of this node that its rules lead to.
    pub node: Vec<SocketAddr>,
    /// Every endpoint that serves, terminating or not.
    pub serving: BTreeSet<SocketAddr>,
}

impl ServicePort {
    pub(super) fn all(&self) -> BTreeSet<SocketAddr> {
        self.cluster.iter().chain(&self.local).copied().collect()
    }

    /// No endpoint can be used, on this node or another.
    pub(super) fn has_none(&self) -> bool {
        self.cluster.is_empty() && self.local.is_empty()
    }

    /// The Service's own address leads to an endpoint.
    pub(super) fn reachable_inside(&self) -> bool {
        self.reachable(self.internal_local)
    }

    /// The node port leads to an endpoint.
    pub(super) fn reachable_outside(&self) -> bool {
        self.reachable(self.external_local)
    }

    fn reachable(&self, local_only: bool) -> bool {
        let endpoints = if local_only { &self.local } else { &self.cluster };
        !endpoints.is_empty()
    }
}

impl Known {
    /// Some: the service whose rules must be written again.
    pub(super) fn service(&mut self, service: &Service, gone: bool) -> Option<Key> {
        let key = key(
            service.metadata.namespace.as_ref(),
            service.metadata.name.as_ref(),
        )?;
        if gone {
            return self.services.remove(&key).map(|_| key);
        }
        let before = self.services.insert(key.clone(), service.clone());
        (before.and_then(|s| s.spec) != service.spec).then_some(key)
    }

    /// Some: the service whose rules must be written again. A slice that says nothing new is no reason to sync
    /// (pkg/proxy/endpointslicecache.go, updatePending).
    pub(super) fn slice(&mut self, slice: &EndpointSlice, gone: bool) -> Option<Key> {
        let key = key(slice.metadata.namespace.as_ref(), slice.metadata.name.as_ref())?;
        if gone {
            return self.slices.remove(&key).map(|slice| slice.service);
        }
        let parsed = parse(slice)?;
        let service = parsed.service.clone();
        let before = self.slices.insert(key, parsed.clone());
        (before.as_ref() != Some(&parsed)).then_some(service)
    }

    /// Every service port of a family, in the order of their names.
    pub(super) fn ports(&self, family: Family, node: &str) -> Vec<ServicePort> {
        self.services
            .iter()
            .flat_map(|(key, service)| self.ports_of(key, service, family, node))
            .collect()
    }

    fn ports_of(&self, key: &Key, service: &Service, family: Family, node: &str) -> Vec<ServicePort> {
        let Some(spec) = &service.spec else {
            return Vec::new();
        };
        let ips = spec
            .cluster_ips
            .clone()
            .unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
        // "None" is no address: a headless service has no rules.
        let cluster_ips: Vec<IpAddr> = ips
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .filter(|ip| Family::of(*ip) == family)
            .collect();
        if cluster_ips.is_empty() {
            return Vec::new();
        }
        let ports = spec.ports.iter().flatten();
        ports
            .map(|port| {
                let port_name = port.name.clone().unwrap_or_default();
                let suffix = if port_name.is_empty() {
                    String::new()
                } else {
                    format!(":{port_name}")
                };
                let endpoints = self.endpoints(key, &port_name, family);
                let local = |(e, _): &&(&Endpoint, u16)| e.node.as_deref() == Some(node);
                let here = usable(&endpoints.iter().filter(local));
                let everywhere = usable(&endpoints.iter());
                let node_has = endpoints
                    .iter()
                    .filter(local)
                    .map(|(e, port)| SocketAddr::new(e.ip, *port));
                let node_has = node_has
                    .filter(|e| everywhere.contains(e) || here.contains(e))
                    .collect();
                let serving = endpoints.iter().filter(|(e, _)| e.serving);
                let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
                ServicePort {
                    service: key.clone(),
                    name: format!("{}/{}{suffix}", key.0, key.1),
                    protocol: port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
                    cluster_ips: cluster_ips.clone(),
                    port: number(port.port).unwrap_or(0),
                    node_port: port.node_port.and_then(number),
                    external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
                    internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
                    cluster: everywhere,
                    local: here,
                    node: node_has,
                    serving: serving.map(|(e, port)| SocketAddr::new(e.ip, *port)).collect(),
                    port_name,
                }
            })
            .collect()
    }

    fn endpoints(&self, service: &Key, port: &str, family: Family) -> Vec<(&Endpoint, u16)> {
        let slices = self.slices.values().filter(|slice| slice.service == *service);
        let all = slices.filter_map(|slice| Some((slice, *slice.ports.get(port)?)));
        all.flat_map(|(slice, port)| slice.endpoints.iter().map(move |e| (e, port)))
            .filter(|(e, _)| Family::of(e.ip) == family)
            .collect()
    }
}

fn key(namespace: Option<&String>, name: Option<&String>) -> Option<Key> {
    Some((namespace?.clone(), name?.clone()))
}

fn parse(slice: &EndpointSlice) -> Option<Slice> {
    let namespace = slice.metadata.namespace.clone()?;
    let service = slice
        .metadata
        .labels
        .as_ref()?
        .get("kubernetes.io/service-name")?
        .clone();
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        Some((
            port.name.clone().unwrap_or_default(),
            u16::try_from(port.port?).ok()?,
        ))
    });
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // Only the first address is used (EndpointSlice API); what is not said is true, or false for terminating.
        let ready = conditions.ready.unwrap_or(true);
        Some(Endpoint {
            ip: endpoint.addresses.first()?.parse().ok()?,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.clone(),
        })
    });
    Some(Slice {
        service: (namespace, service),
        ports: ports.collect(),
        endpoints: endpoints.collect(),
    })
}

/// pkg/proxy/topology.go, CategorizeEndpoints: ready, and only if there is none, serving while terminating (KEP-1669).
fn usable<'a>(endpoints: &(impl Iterator<Item = &'a (&'a Endpoint, u16)> + Clone)) -> Vec<SocketAddr> {
    let pick = |wanted: fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        endpoints
            .clone()
            .filter(|(e, _)| wanted(e))
            .map(|(e, port)| SocketAddr::new(e.ip, *port))
            .collect()
    };
    let ready = pick(|e| e.ready);
    let picked = if ready.is_empty() {
        pick(|e| e.serving && e.terminating)
    } else {
        ready
    };
    picked.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(endpoints: &str) -> Known {
        let service = r#"{"metadata":{"namespace":"d","name":"web"},"spec":{"clusterIPs":["10.96.0.80"],"ports":[{"port":80,"nodePort":30080}]}}"#;
        let slice = format!(
            r#"{{"addressType":"IPv4","metadata":{{"namespace":"d","name":"web-1","labels":{{"kubernetes.io/service-name":"web"}}}},"ports":[{{"name":"","port":8080}}],"endpoints":{endpoints}}}"#
        );
        let mut known = Known::default();
        assert!(
            known
                .service(&serde_json::from_str(service).unwrap(), false)
                .is_some()
        );
        let slice: EndpointSlice = serde_json::from_str(&slice).unwrap();
        assert!(known.slice(&slice, false).is_some());
        assert_eq!(known.slice(&slice, false), None, "nothing new");
        known
    }

    fn addrs(list: &[SocketAddr]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_terminating_endpoint_is_used_only_when_none_is_ready() {
        let dying = r#"{"addresses":["10.244.1.3"],"nodeName":"n1","conditions":{"ready":false,"serving":true,"terminating":true}}"#;
        let both = known(&format!(
            r#"[{dying},{{"addresses":["10.244.2.4"],"nodeName":"n2"}}]"#
        ));
        let port = both.ports(Family::V4, "n1").remove(0);
        assert_eq!(addrs(&port.cluster), ["10.244.2.4:8080"]);
        assert_eq!(
            addrs(&port.local),
            ["10.244.1.3:8080"],
            "this node has only the dying one"
        );
        assert!(both.ports(Family::V6, "n1").is_empty());
        let alone = known(&format!("[{dying}]")).ports(Family::V4, "n1").remove(0);
        assert_eq!(addrs(&alone.cluster), ["10.244.1.3:8080"]);
        let none = known(
            r#"[{"addresses":["10.244.1.3"],"conditions":{"ready":false,"serving":false,"terminating":true}}]"#,
        );
        assert!(none.ports(Family::V4, "n1").remove(0).all().is_empty());
    }
}
