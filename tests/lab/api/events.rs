//! Events as the components' recorders write them: one object for each repeated event, with a count.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::{
    Resource,
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::store::{Object, Store, StoreError};

/// Who tells it, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `kubelet`, `replicaset-controller`, `default-scheduler`
    pub component: &'static str,
    pub host: Option<&'a str>,
}

/// What an event says.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub warning: bool,
    pub reason: &'static str,
    pub message: &'a str,
}

impl<'a> Said<'a> {
    pub fn normal(reason: &'static str, message: &'a str) -> Self {
        Self {
            warning: false,
            reason,
            message,
        }
    }

    pub fn warning(reason: &'static str, message: &'a str) -> Self {
        Self {
            warning: true,
            reason,
            message,
        }
    }
}

/// A reference to `object`, as events carry it.
pub fn reference<K: Object + Resource>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Writes an event, or counts it on the one that says the same (client-go tools/record/events_cache.go, EventAggregator
/// without its spam filter). Events are a courtesy: an error is the caller's log's, no more.
pub fn record(store: &Store, about: &ObjectReference, source: Source<'_>, said: Said<'_>) {
    if let Err(error) = write(store, about, source, said) {
        tracing::debug!(%error, reason = said.reason, "event not written");
    }
}

fn write(
    store: &Store,
    about: &ObjectReference,
    source: Source<'_>,
    said: Said<'_>,
) -> Result<(), StoreError> {
    // Events of objects without a namespace go to `default` (tools/record/event.go, makeEvent).
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let mut hasher = DefaultHasher::new();
    (
        &about.uid,
        &about.field_path,
        source.component,
        said.reason,
        said.message,
    )
        .hash(&mut hasher);
    let name = format!(
        "{}.{:016x}",
        about.name.as_deref().unwrap_or_default(),
        hasher.finish()
    );
    let now = Some(Time(Timestamp::now()));
    if store.get::<Event>(&namespace, &name).is_some() {
        let counted = store.update(&namespace, &name, |event: &mut Event| {
            event.count = event.count.map(|n| n.saturating_add(1));
            event.last_timestamp = now;
        });
        return counted.map(drop);
    }
    let created = store.create(Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        type_: Some(if said.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(said.reason.to_owned()),
        message: Some(said.message.to_owned()),
        source: Some(EventSource {
            component: Some(source.component.to_owned()),
            host: source.host.map(str::to_owned),
        }),
        reporting_component: Some(source.component.to_owned()),
        reporting_instance: source.host.map(str::to_owned),
        count: Some(1),
        first_timestamp: now.clone(),
        last_timestamp: now,
        ..Event::default()
    });
    created.map(drop)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    const KUBELET: Source<'_> = Source {
        component: "kubelet",
        host: Some("n1"),
    };

    fn pod(store: &Store, name: &str) -> ObjectReference {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("shop".into());
        reference(&store.create(pod).unwrap())
    }

    #[test]
    fn the_same_event_again_is_a_count_and_another_is_another() {
        let store = Store::new();
        let web = pod(&store, "web-1");
        for _ in 0..3 {
            record(&store, &web, KUBELET, Said::warning("Unhealthy", "probe failed"));
        }
        record(
            &store,
            &web,
            KUBELET,
            Said::normal("Killing", "Stopping container app"),
        );
        let events = store.list::<Event>();
        assert_eq!(events.len(), 2);
        let unhealthy = events
            .iter()
            .find(|e| e.reason.as_deref() == Some("Unhealthy"))
            .unwrap();
        assert_eq!(unhealthy.count, Some(3));
        assert_eq!(unhealthy.involved_object.uid, web.uid);
        assert_eq!(unhealthy.metadata.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn a_pod_with_the_name_of_a_former_one_has_its_own_events() {
        let store = Store::new();
        let first = pod(&store, "db-0");
        record(&store, &first, KUBELET, Said::normal("Killing", "x"));
        store.remove::<Pod>("shop", "db-0").unwrap();
        let second = pod(&store, "db-0");
        record(&store, &second, KUBELET, Said::normal("Killing", "x"));
        assert_eq!(store.list::<Event>().len(), 2);
    }
}
