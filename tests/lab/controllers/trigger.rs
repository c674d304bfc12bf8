//! When did the change happen that a slice update answers? The value of
//! `endpoints.kubernetes.io/last-change-trigger-time`.

use std::collections::BTreeMap;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pods;

/// What one service's slices already answered (staging endpointslice/util/trigger_time_tracker.go). The only trigger
/// of a pod is its Ready condition's lastTransitionTime: the update that says terminating has none, because Ready
/// stays True then. Times are whole seconds, as on the wire, so a second change within one second has none either.
#[derive(Debug, Default)]
pub struct Tracker {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Timestamp>,
}

impl Tracker {
    /// The earliest trigger that is new since the last call; `None` = the annotation is left out.
    pub fn next(&mut self, service: &Service, members: &[Pod]) -> Option<Timestamp> {
        let mut changed = Vec::new();
        let mut now = BTreeMap::new();
        for pod in members {
            let Some(at) =
                pods::ready_condition(pod).and_then(|ready| whole(ready.last_transition_time.as_ref()))
            else {
                continue;
            };
            let name = pods::key(&pod.metadata).1;
            if self.pods.get(&name).is_none_or(|before| at > *before) {
                changed.push(at);
            }
            now.insert(name, at);
        }
        let created = whole(service.metadata.creation_timestamp.as_ref());
        if created > self.service {
            changed.extend(created);
        }
        *self = Self {
            service: created,
            pods: now,
        };
        changed.into_iter().min()
    }
}

fn whole(time: Option<&Time>) -> Option<Timestamp> {
    time?
        .0
        .round(
            TimestampRound::new()
                .smallest(Unit::Second)
                .mode(RoundMode::Trunc),
        )
        .ok()
}
