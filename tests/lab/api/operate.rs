//! What an operator may do through the API and the daemon may not: create, patch and delete objects, evict pods, read logs.

use std::{
    collections::BTreeSet,
    io::{self, Read as _},
    net::IpAddr,
    path::PathBuf,
};

use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{Namespace, Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, Time},
};
use serde_json::{Value, json};

use super::{
    pod_log,
    request::Target,
    server::BODY_LIMIT,
    status::Failure,
    store::{Object, Store, StoreError},
    write,
};
use crate::{controllers, net::Addresses};

/// What an operator's server needs besides the objects.
#[derive(Debug)]
pub struct Powers {
    token: String,
    addresses: Addresses,
    /// Where the kubelets write the containers' logs.
    logs: PathBuf,
}

impl Powers {
    /// With a new token: what pods run runs as root, so no other user of the machine may create one.
    pub fn new(addresses: Addresses, logs: PathBuf) -> io::Result<Self> {
        let mut random = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self {
            token: format!("{:032x}", u128::from_ne_bytes(random)),
            addresses,
            logs,
        })
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn are_of(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        given.and_then(|given| given.strip_prefix("Bearer ")) == Some(&self.token)
    }
}

/// Whether a request is one of these; the others are everybody's.
pub(super) fn is_for_operators(request: &Request) -> bool {
    request.method() != Method::GET || request.uri().path().ends_with("/log")
}

pub(super) async fn answer(store: &Store, powers: &Powers, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let target = Target::parse(path).ok_or_else(|| Failure::not_found(&format!("the path {path:?}")))?;
    if head.method == Method::GET {
        return pod_log::read(store, &powers.logs, &target, &head.uri);
    }
    let body = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|error| Failure::bad_request(format!("cannot read the body: {error}")))?;
    match (head.method, target.name.as_deref(), target.subresource.as_deref()) {
        (Method::POST, None, None) => create(store, powers, &target, &body),
        (Method::POST, Some(name), Some("eviction")) if target.kind.kind == "Pod" => {
            let namespace = target.namespace.as_deref().unwrap_or_default();
            controllers::evict(store, namespace, name).map_err(failure)?;
            let said = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            Ok((StatusCode::CREATED, Json(said)).into_response())
        }
        (Method::PATCH, Some(name), None) => {
            let given = head
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(|v| v.to_str().ok());
            if given != Some("application/merge-patch+json") {
                return Err(Failure::unsupported_media_type(
                    given.unwrap_or("no content type"),
                ));
            }
            let change = serde_json::from_slice(&body)
                .map_err(|error| Failure::bad_request(format!("the patch is no JSON: {error}")))?;
            patch(store, &target, name, &change)
        }
        (Method::DELETE, Some(name), None) => delete(store, &target, name, &body),
        _ => Err(Failure::method_not_allowed()),
    }
}

/// The same function for the kind that the path names.
macro_rules! of_kind {
    ($target:expr, $function:ident($($argument:expr),*), $other:expr) => {
        match $target.kind.kind {
            "Namespace" => $function::<Namespace>($($argument),*),
            "Service" => $function::<Service>($($argument),*),
            "Pod" => $function::<Pod>($($argument),*),
            "Deployment" => $function::<Deployment>($($argument),*),
            "StatefulSet" => $function::<StatefulSet>($($argument),*),
            "DaemonSet" => $function::<DaemonSet>($($argument),*),
            "Job" => $function::<Job>($($argument),*),
            _ => $other,
        }
    };
}

fn create(store: &Store, powers: &Powers, target: &Target, body: &[u8]) -> Result<Response, Failure> {
    if let Some(namespace) = &target.namespace {
        let found = store.get::<Namespace>("", namespace);
        let found = found.ok_or_else(|| Failure::not_found(&format!("namespaces {namespace:?}")))?;
        if found.metadata.deletion_timestamp.is_some() {
            // plugin/pkg/admission/namespace/lifecycle: nothing new in what is being removed.
            return Err(Failure::forbidden(&format!(
                "create in namespace {namespace}, which is being terminated,"
            )));
        }
    }
    of_kind!(
        target,
        admitted(store, powers, target, body),
        write::create(store, target, body)
    )
}

/// What the API server fills in.
trait Admitted: Object {
    fn admit(&mut self, _store: &Store, _powers: &Powers) -> Result<(), Failure> {
        Ok(())
    }
}

impl Admitted for Deployment {}
impl Admitted for StatefulSet {}
impl Admitted for DaemonSet {}
impl Admitted for Job {}

impl Admitted for Namespace {
    fn admit(&mut self, _: &Store, _: &Powers) -> Result<(), Failure> {
        self.status.get_or_insert_default().phase = Some("Active".to_owned());
        Ok(())
    }
}

impl Admitted for Pod {
    fn admit(&mut self, _: &Store, _: &Powers) -> Result<(), Failure> {
        self.status.get_or_insert_default().phase = Some("Pending".to_owned());
        let spec = self.spec.get_or_insert_default();
        spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
        spec.termination_grace_period_seconds.get_or_insert(30);
        Ok(())
    }
}

/// Hosts of the service network that are given to services without an address; a scenario's own have smaller numbers.
const SERVICE_HOSTS: std::ops::RangeInclusive<u8> = 64..=254;

impl Admitted for Service {
    /// Of one family; node ports are not given.
    fn admit(&mut self, store: &Store, powers: &Powers) -> Result<(), Failure> {
        let spec = self.spec.get_or_insert_default();
        let families = spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
        let v6 = matches!(families.as_slice(), [one] if one == "IPv6");
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        spec.ip_family_policy
            .get_or_insert_with(|| "SingleStack".to_owned());
        spec.session_affinity.get_or_insert_with(|| "None".to_owned());
        spec.internal_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.cluster_ip.is_none() {
            let services = store.list::<Service>().into_iter();
            let taken: BTreeSet<String> = services.filter_map(|s| s.spec?.cluster_ip).collect();
            let free = |ip: &IpAddr| !taken.contains(&ip.to_string());
            let mut all = SERVICE_HOSTS.map(|host| powers.addresses.service(host, v6));
            let ip = all
                .find(free)
                .ok_or_else(|| Failure::invalid("the range of services is full"))?;
            spec.cluster_ip = Some(ip.to_string());
            spec.cluster_ips = Some(vec![ip.to_string()]);
        }
        Ok(())
    }
}

fn admitted<K: Admitted>(
    store: &Store,
    powers: &Powers,
    target: &Target,
    body: &[u8],
) -> Result<Response, Failure> {
    let mut object: K = write::decode(body)?;
    let meta = object.metadata_mut();
    meta.namespace.clone_from(&target.namespace);
    if let (None, Some(prefix)) = (&meta.name, &meta.generate_name) {
        meta.name = Some(format!("{prefix}{:08x}", fastrand::u32(..)));
    }
    object.admit(store, powers)?;
    let created = store.create(object).map_err(failure)?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

fn patch(store: &Store, target: &Target, name: &str, change: &Value) -> Result<Response, Failure> {
    of_kind!(
        target,
        merged(store, target, name, change),
        Err(Failure::forbidden(&format!("patch a {}", target.kind.kind)))
    )
}

fn merged<K: Object>(
    store: &Store,
    target: &Target,
    name: &str,
    change: &Value,
) -> Result<Response, Failure> {
    let mut wrong = None;
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let patched = store.update::<K>(namespace, name, |object| {
        let new = serde_json::to_value(&*object).and_then(|mut json| {
            merge(&mut json, change);
            serde_json::from_value(json)
        });
        match new {
            Ok(new) => *object = new,
            Err(error) => wrong = Some(error),
        }
    });
    if let Some(error) = wrong {
        return Err(Failure::invalid(&format!("the patched object: {error}")));
    }
    patched
        .map(|object| Json(object).into_response())
        .map_err(failure)
}

/// RFC 7386.
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(fields) = change else {
        return into.clone_from(change);
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        let Some(object) = into.as_object_mut() else {
            return;
        };
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Pods and namespaces. There is no garbage collector, so what owns pods goes with its namespace.
fn delete(store: &Store, target: &Target, name: &str, body: &[u8]) -> Result<Response, Failure> {
    let options: DeleteOptions = match body {
        [] => DeleteOptions::default(),
        some => serde_json::from_slice(some)
            .map_err(|error| Failure::bad_request(format!("the body is no DeleteOptions: {error}")))?,
    };
    let namespace = target.namespace.as_deref().unwrap_or_default();
    match target.kind.kind {
        "Pod" => controllers::delete_pod(store, namespace, name, options.grace_period_seconds)
            .map(|pod| Json(pod).into_response()),
        "Namespace" => store
            .update(namespace, name, |namespace: &mut Namespace| {
                let now = Time(Timestamp::now());
                namespace.metadata.deletion_timestamp.get_or_insert(now);
                namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            })
            .map(|namespace| Json(namespace).into_response()),
        other => return Err(Failure::forbidden(&format!("delete a {other}"))),
    }
    .map_err(failure)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: StoreError) -> Failure {
    match &error {
        StoreError::AlreadyExists { .. } => Failure::already_exists(error.to_string()),
        StoreError::NotFound { name, .. } => Failure::not_found(name),
        _ => Failure::invalid(&error.to_string()),
    }
}

#[cfg(test)]
#[path = "operate_tests.rs"]
mod tests;
