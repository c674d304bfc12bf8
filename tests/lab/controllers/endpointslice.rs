//! The EndpointSlice controller: tells which pods stand behind a service and in what condition.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods::{self, Key};
use super::queue::Queue;
use super::trigger::Tracker;
use super::{Settings, names};
use crate::api::{Change, Store, StoreError};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let mut rng = settings.rng("endpointslice");
    let mut services = store.watch::<Service>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    let mut trackers: BTreeMap<Key, Tracker> = BTreeMap::new();
    // Which services each pod last stood behind: a pod whose labels changed must leave the old ones.
    let mut behind: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    loop {
        let delay = settings.timings.endpointslice_follows_pod;
        tokio::select! {
            biased;
            change = services.next_timed() => {
                let Some((at, Change::Applied(service) | Change::Deleted(service))) = change else { return };
                queue.add(pods::key(&service.metadata), at + delay.draw(&mut rng));
            }
            change = members.next_timed() => {
                let Some((at, change)) = change else { return };
                let (pod, now) = match &change {
                    Change::Applied(pod) => (pod, services_of(&store, pod)),
                    Change::Deleted(pod) => (pod, BTreeSet::new()),
                };
                let key = pods::key(&pod.metadata);
                let before = behind.remove(&key).unwrap_or_default();
                for service in before.union(&now) {
                    queue.add(service.clone(), at + delay.draw(&mut rng));
                }
                if !now.is_empty() {
                    behind.insert(key, now);
                }
            }
            key = queue.next() => {
                let tracker = trackers.entry(key.clone()).or_default();
                if let Err(error) = reconcile(&store, &key, tracker, &mut rng) {
                    tracing::warn!(%error, "endpointslice controller");
                }
                if store.get::<Service>(&key.0, &key.1).is_none() {
                    trackers.remove(&key);
                }
            }
        }
    }
}

fn selector(service: &Service) -> BTreeMap<String, String> {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.clone())
        .unwrap_or_default()
}

fn stands_behind(service: &Service, pod: &Pod) -> bool {
    service.metadata.namespace == pod.metadata.namespace
        && pods::selects(&selector(service), pod.metadata.labels.as_ref())
}

fn services_of(store: &Store, pod: &Pod) -> BTreeSet<Key> {
    let services = store.list::<Service>();
    services
        .iter()
        .filter(|service| stands_behind(service, pod))
        .map(|service| pods::key(&service.metadata))
        .collect()
}

/// One address family and one resolved set of ports: what a single slice can say.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    family: &'static str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

fn reconcile(
    store: &Store,
    key: &Key,
    tracker: &mut Tracker,
    rng: &mut fastrand::Rng,
) -> Result<(), StoreError> {
    let mut slices: Vec<EndpointSlice> = store.list();
    slices.retain(|slice| {
        let service = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME));
        slice.metadata.namespace.as_ref() == Some(&key.0) && service == Some(&key.1)
    });
    let Some(service) = store.get::<Service>(&key.0, &key.1) else {
        return slices.iter().try_for_each(|slice| remove(store, slice));
    };
    if selector(&service).is_empty() {
        return Ok(());
    }
    let mut members: Vec<Pod> = store.list();
    members.retain(|pod| stands_behind(&service, pod));
    members.sort_by_cached_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
    let trigger = tracker.next(&service, &members).map(|at| at.to_string());

    for group in groups(&service, &members) {
        // The slice with these ports, else any of the family: a rename of a port is an update, not a new slice.
        let same = |slice: &EndpointSlice| slice.address_type == group.family;
        let exact = slices
            .iter()
            .position(|slice| same(slice) && slice.ports.as_ref() == Some(&group.ports));
        let found = exact
            .or_else(|| slices.iter().position(same))
            .map(|index| slices.swap_remove(index));
        let write = |slice: &mut EndpointSlice| {
            let told = slice.ports.is_some();
            slice.ports = Some(group.ports.clone());
            if told && slice.endpoints == group.endpoints {
                return;
            }
            slice.endpoints.clone_from(&group.endpoints);
            let annotations = slice.metadata.annotations.get_or_insert_default();
            match &trigger {
                Some(at) => annotations.insert(TRIGGER_TIME.to_owned(), at.clone()),
                None => annotations.remove(TRIGGER_TIME),
            };
        };
        if let Some(slice) = found {
            let (namespace, name) = pods::key(&slice.metadata);
            store.update(&namespace, &name, write)?;
        } else {
            let mut slice = empty_slice(&service, group.family, rng);
            write(&mut slice);
            store.create(slice)?;
        }
    }
    // What is left speaks of ports or families that nobody has any more.
    slices.iter().try_for_each(|slice| remove(store, slice))
}

fn remove(store: &Store, slice: &EndpointSlice) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&slice.metadata);
    store.remove::<EndpointSlice>(&namespace, &name).map(drop)
}

fn empty_slice(service: &Service, family: &str, rng: &mut fastrand::Rng) -> EndpointSlice {
    let (namespace, name) = pods::key(&service.metadata);
    let labels = [
        (SERVICE_NAME.to_owned(), name.clone()),
        (
            MANAGED_BY.to_owned(),
            "endpointslice-controller.k8s.io".to_owned(),
        ),
    ];
    let metadata = ObjectMeta {
        name: Some(format!("{name}-{}", names::suffix(rng))),
        namespace: Some(namespace),
        labels: Some(labels.into()),
        owner_references: Some(vec![pods::owner::<Service>(&service.metadata)]),
        ..ObjectMeta::default()
    };
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        ..EndpointSlice::default()
    }
}

fn groups(service: &Service, members: &[Pod]) -> Vec<Group> {
    let spec = service.spec.clone().unwrap_or_default();
    let mut groups: Vec<Group> = Vec::new();
    for family in families(&spec) {
        let first = groups.len();
        for pod in members {
            let addresses = addresses(pod, family);
            if addresses.is_empty() || pods::terminal(pod) {
                continue;
            }
            let ports = ports(&spec, pod);
            let endpoint = endpoint(&spec, pod, addresses);
            let same = groups.iter_mut().skip(first).find(|group| group.ports == ports);
            match same {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    family,
                    ports,
                    endpoints: vec![endpoint],
                }),
            }
        }
        if groups.len() == first {
            // A slice without endpoints stays, so that consumers see "none" rather than nothing.
            groups.push(Group {
                family,
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
    }
    groups
}

fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let named: Vec<_> = spec
        .ip_families
        .iter()
        .flatten()
        .map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let cluster_ip = spec
        .cluster_ip
        .as_deref()
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    vec![if cluster_ip.is_some_and(|ip| ip.is_ipv6()) {
        "IPv6"
    } else {
        "IPv4"
    }]
}

/// The pod's address in a family, at most one (status.podIPs has one for each).
fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| &ip.ip)
        .chain(&status.pod_ip);
    let fits = |ip: &&String| {
        ip.parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"))
    };
    all.filter(fits).take(1).cloned().collect()
}

/// The service's ports as this pod has them: a number, or the container port of that name. A name that the pod does
/// not have is left out (endpointslice/util FindPort).
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let named: Vec<_> = containers
        .flat_map(|container| container.ports.iter().flatten())
        .collect();
    let resolve = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named
                .iter()
                .find(|has| {
                    has.name.as_ref() == Some(name) && has.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|has| has.container_port),
        };
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number?),
            protocol: Some(protocol),
            app_protocol: port.app_protocol.clone(),
        })
    };
    spec.ports.iter().flatten().filter_map(resolve).collect()
}

/// endpointslice/utils.go podToEndpoint.
fn endpoint(spec: &ServiceSpec, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let publish = spec.publish_not_ready_addresses.unwrap_or(false);
    let (serving, terminating) = (pods::ready(pod), pods::terminating(pod));
    let meta = &pod.metadata;
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
