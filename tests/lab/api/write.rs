//! The one thing that every client may write: events.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::{core, events};

use super::request::Target;
use super::status::Failure;
use super::store::{Object, Store, StoreError};

/// `POST` on a list: creates an event of core/v1 or events.k8s.io/v1. Anything else is refused, as by RBAC.
pub fn create(store: &Store, target: &Target, body: &[u8]) -> Result<Response, Failure> {
    let Some(namespace) = target.namespace.as_deref().filter(|_| target.name.is_none()) else {
        return Err(Failure::method_not_allowed());
    };
    match (target.kind.plural.group, target.kind.kind) {
        ("", "Event") => {
            let event: core::v1::Event = decode(body)?;
            legacy(namespace, &event)?;
            stored(store, namespace, event)
        }
        ("events.k8s.io", "Event") => {
            let event: events::v1::Event = decode(body)?;
            complete(&event)?;
            stored(store, namespace, event)
        }
        (_, kind) => Err(Failure::forbidden(&format!("create a {kind}"))),
    }
}

pub(super) fn decode<K: Object>(body: &[u8]) -> Result<K, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is no {}: {error}", K::KIND)))
}

/// pkg/apis/core/validation/events.go, legacyValidateEvent: an event lives where its object does, or in `default`.
fn legacy(namespace: &str, event: &core::v1::Event) -> Result<(), Failure> {
    let about = event.involved_object.namespace.as_deref().unwrap_or_default();
    let fits = if about.is_empty() {
        namespace == "default"
    } else {
        about == namespace
    };
    if fits {
        Ok(())
    } else {
        Err(Failure::invalid(
            "involvedObject.namespace: Invalid value: does not match event.namespace",
        ))
    }
}

/// The same file, ValidateEventCreate, for the fields that events.k8s.io/v1 insists on.
fn complete(event: &events::v1::Event) -> Result<(), Failure> {
    let needed = [
        ("eventTime", event.event_time.is_some()),
        ("reportingController", event.reporting_controller.is_some()),
        ("reportingInstance", event.reporting_instance.is_some()),
        ("action", event.action.is_some()),
        ("reason", event.reason.is_some()),
        (
            "type",
            matches!(event.type_.as_deref(), Some("Normal" | "Warning")),
        ),
    ];
    if let Some((field, _)) = needed.iter().find(|(_, given)| !given) {
        return Err(Failure::invalid(&format!("{field}: Required value")));
    }
    // legacyValidateEvent; lengths in bytes, as Go has them.
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let limited = [
        ("note", length(&event.note), 1024),
        ("reason", length(&event.reason), 128),
        ("action", length(&event.action), 128),
        ("reportingInstance", length(&event.reporting_instance), 128),
    ];
    if let Some((field, _, most)) = limited.iter().find(|(_, length, most)| length > most) {
        return Err(Failure::invalid(&format!(
            "{field}: can have at most {most} characters"
        )));
    }
    let deprecated = event.deprecated_count.is_some()
        || event.deprecated_first_timestamp.is_some()
        || event.deprecated_last_timestamp.is_some()
        || event.deprecated_source.is_some();
    if deprecated {
        return Err(Failure::invalid(
            "deprecatedCount and its like: needs to be unset",
        ));
    }
    let about = event.regarding.as_ref().and_then(|r| r.namespace.as_deref());
    if about != event.metadata.namespace.as_deref() && event.metadata.namespace.is_some() {
        return Err(Failure::invalid(
            "regarding.namespace: does not match event.namespace",
        ));
    }
    Ok(())
}

fn stored<K: Object>(store: &Store, namespace: &str, mut object: K) -> Result<Response, Failure> {
    let meta = object.metadata_mut();
    if let (None, Some(prefix)) = (&meta.name, &meta.generate_name) {
        meta.name = Some(format!("{prefix}{:08x}", fastrand::u32(..)));
    }
    if meta.namespace.get_or_insert_with(|| namespace.to_owned()) != namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(text.to_owned()));
    }
    match store.create(object) {
        Ok(created) => Ok((StatusCode::CREATED, Json(created)).into_response()),
        Err(error @ StoreError::AlreadyExists { .. }) => Err(Failure::already_exists(error.to_string())),
        Err(error) => Err(Failure::invalid(&error.to_string())),
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
