//! The kubelet's events about a pod.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use super::probe::Kind;
use crate::api::{
    events::{Said, Source, record, reference},
    store::Store,
};

/// Writes the events of one pod.
#[derive(Clone)]
pub(super) struct Recorder {
    store: Store,
    node: String,
    pod: ObjectReference,
}

impl Recorder {
    pub(super) fn new(store: Store, node: &str, pod: &Pod) -> Self {
        Self {
            store,
            node: node.to_owned(),
            pod: reference(pod),
        }
    }

    /// About one container (pkg/kubelet/container/ref.go, GenerateContainerRef).
    fn tell(&self, container: &str, said: Said<'_>) {
        let about = ObjectReference {
            field_path: Some(format!("spec.containers{{{container}}}")),
            ..self.pod.clone()
        };
        let source = Source {
            component: "kubelet",
            host: Some(&self.node),
        };
        record(&self.store, &about, source, said);
    }

    pub(super) fn unhealthy(&self, container: &str, kind: Kind, error: &str) {
        let said = format!("{kind:?} probe failed: {error}");
        self.tell(container, Said::warning("Unhealthy", &said));
    }

    pub(super) fn started(&self, container: &str) {
        self.tell(container, Said::normal("Created", "Container created"));
        self.tell(container, Said::normal("Started", "Container started"));
    }

    /// `probe`: the one that failed; none: the pod is being deleted.
    pub(super) fn killing(&self, container: &str, probe: Option<Kind>) {
        let said = match probe {
            Some(Kind::Startup) => format!("Container {container} failed startup probe, will be restarted"),
            Some(_) => format!("Container {container} failed liveness probe, will be restarted"),
            None => format!("Stopping container {container}"),
        };
        self.tell(container, Said::normal("Killing", &said));
    }

    pub(super) fn back_off(&self, container: &str) {
        let name = self.pod.name.as_deref().unwrap_or_default();
        let said = format!("Back-off restarting failed container {container} in pod {name}");
        self.tell(container, Said::warning("BackOff", &said));
    }

    /// A hook that fails, or that the container's end cut. Why is in the kubelet's log alone
    /// (kuberuntime_container.go, executePreStopHook: secrets must not leak).
    pub(super) fn failed_pre_stop(&self, container: &str) {
        self.tell(
            container,
            Said::warning("FailedPreStopHook", "PreStopHook failed"),
        );
    }
}
