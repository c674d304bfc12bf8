//! Writes Events: finds the workload's object, creates the Event (events.k8s.io/v1), tries again while that may help.

use std::time::Duration;

use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{ObjectReference, Pod},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    owners::{self, controller},
    reach::chain,
};
use crate::{
    clock,
    input::{Wall, Workload},
    sink::{events::Told, metrics::EventCounts},
};

/// `reportingController`: a qualified name.
const CONTROLLER: &str = "zdt";

/// The API server refuses a longer `reportingInstance`.
const LONGEST_INSTANCE: usize = 128;

/// An API server that is busy or away is tried so often, after 1, 2, 4, 8 and 16 s.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// A request that hangs is one that failed.
const ANSWER: Duration = Duration::from_secs(5);

/// All nodes may have something to tell of one rollout at the same time.
const APART: Duration = Duration::from_millis(200);

/// What is to be written, and what counts it.
pub struct Telling {
    pub told: mpsc::Receiver<Told>,
    pub counts: EventCounts,
}

impl Telling {
    /// Writes one after the other until nobody tells any more.
    pub async fn write(mut self, client: Client, node: String) {
        let mut complained = false;
        while let Some(told) = self.told.recv().await {
            let wall = clock::wall();
            match persistently(&client, &node, &told, wall).await {
                Ok(()) => {
                    self.counts.written.inc();
                    complained = false;
                }
                Err(error) => {
                    self.counts.failed.inc();
                    if !complained {
                        complained = true;
                        tracing::warn!(
                            "the Event {} of {}/{}/{} is not written: {}. zdt needs the rule {{apiGroups: [events.k8s.io], \
                             resources: [events], verbs: [create]}}; without --events it writes none",
                            told.reason,
                            told.namespace,
                            told.workload.kind,
                            told.workload.name,
                            chain(&error)
                        );
                    }
                }
            }
            sleep(APART).await;
        }
    }
}

/// None of its errors is final but the API server's own refusals.
async fn persistently(client: &Client, node: &str, told: &Told, at: Wall) -> Result<(), kube::Error> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match timeout(ANSWER, once(client, node, told, at)).await {
            Ok(Err(error)) if !passes(&error) => return Err(error),
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(wait).await;
        wait *= 2;
    }
    once(client, node, told, at).await
}

/// Whether waiting may help.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

async fn once(client: &Client, node: &str, told: &Told, at: Wall) -> Result<(), kube::Error> {
    let owner = owner(client, node, told).await;
    let api = Api::<Event>::namespaced(client.clone(), &told.namespace);
    match api
        .create(&PostParams::default(), &event(node, told, owner.as_ref(), at))
        .await
    {
        Ok(_) => Ok(()),
        // An earlier try got there, and its answer did not get here.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// The workload's object as those that it owns name it: `kubectl describe` finds an object's Events by its uid. It is
/// asked only now, once for each Event, with what zdt may read anyway: a Deployment's ReplicaSet has a name that follows
/// from the revision, and of anything else one of its pods may be on this node. None: there is none of them any more.
async fn owner(client: &Client, node: &str, told: &Told) -> Option<OwnerReference> {
    let Told {
        namespace, workload, ..
    } = told;
    if workload.kind == "deployment" {
        let hash = told.template_hash.as_deref()?;
        let sets = Api::<ReplicaSet>::namespaced(client.clone(), namespace);
        let set = sets.get_opt(&format!("{}-{hash}", workload.name)).await.ok()??;
        return owned_by(&set.metadata, workload);
    }
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    if workload.kind == "pod" {
        let pod = pods.get_opt(&workload.name).await.ok()??;
        return Some(OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: workload.name.clone(),
            uid: pod.metadata.uid?,
            ..OwnerReference::default()
        });
    }
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = pods.list(&here).await.ok()?;
    pods.items
        .iter()
        .find_map(|pod| owned_by(&pod.metadata, workload))
}

fn owned_by(meta: &ObjectMeta, workload: &Workload) -> Option<OwnerReference> {
    let owner = controller(meta)?;
    (owner.kind.to_lowercase() == workload.kind && owner.name == workload.name).then(|| owner.clone())
}

/// pkg/apis/core/validation/events.go, ValidateEventCreate, says which fields must be there and which must not.
fn event(node: &str, told: &Told, owner: Option<&OwnerReference>, at: Wall) -> Event {
    let (api_version, kind) = match owner {
        Some(owner) => (Some(owner.api_version.clone()), owner.kind.clone()),
        None => owners::typed(&told.workload.kind),
    };
    let regarding = ObjectReference {
        api_version,
        kind: Some(kind),
        namespace: Some(told.namespace.clone()),
        name: Some(told.workload.name.clone()),
        uid: owner.map(|o| o.uid.clone()),
        ..ObjectReference::default()
    };
    Event {
        metadata: ObjectMeta {
            name: Some(told.name.clone()),
            namespace: Some(told.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(
            Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH),
        )),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(node.chars().take(LONGEST_INSTANCE).collect()),
        type_: Some("Warning".into()),
        reason: Some(told.reason.clone()),
        action: Some(told.action.clone()),
        note: Some(told.note.clone()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            namespace: "shop".into(),
            workload: Workload {
                kind: "deployment".into(),
                name: "web".into(),
            },
            template_hash: Some("8cc9f4fb5".into()),
            name: "web.0000000000000001".into(),
            reason: "PodIpGone".into(),
            action: "RollingUpdate".into(),
            note: "1 request failed".into(),
        }
    }

    #[test]
    fn event_is_about_the_object_by_its_uid() {
        let owner = OwnerReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            uid: "d-1".into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        let set = ObjectMeta {
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        let owner = owned_by(&set, &told().workload);
        let event = event("n1", &told(), owner.as_ref(), Wall(1_700_000_000_123));
        let about = event.regarding.unwrap();
        assert_eq!(
            (about.kind.as_deref(), about.uid.as_deref()),
            (Some("Deployment"), Some("d-1"))
        );
        assert_eq!(about.api_version.as_deref(), Some("apps/v1"));
        assert_eq!(event.event_time.unwrap().0.as_millisecond(), 1_700_000_000_123);
        let other = Workload {
            kind: "deployment".into(),
            name: "other".into(),
        };
        assert_eq!(owned_by(&set, &other), None, "a name that is used again");
    }

    #[test]
    fn event_about_what_is_gone_has_a_kind_all_the_same() {
        let about = event("n1", &told(), None, Wall(0)).regarding.unwrap();
        assert_eq!(
            (about.api_version.as_deref(), about.kind.as_deref(), about.uid),
            (Some("apps/v1"), Some("Deployment"), None)
        );
    }
}
