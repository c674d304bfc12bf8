//! A StatefulSet replaces a pod by deleting it first.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "statefulset-order",
    id: "E4",
    what: "a StatefulSet deletes a pod before it makes its successor, one after the other (maxUnavailable is 1 by default): each of them is missing for the time of its restart",
    applies: |case: &Case<'_>| {
        case.end_of.trigger == Trigger::RollingUpdate
            && case.end_of.workload.is_some_and(|w| w.kind == "statefulset")
    },
};
