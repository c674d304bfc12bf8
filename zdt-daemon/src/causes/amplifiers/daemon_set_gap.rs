//! A DaemonSet replaces a pod by deleting it first.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "daemonset-gap",
    id: "E5",
    what: "a DaemonSet deletes the pod of a node before it makes its successor (maxSurge is 0 by default): the node has none in between",
    applies: |case: &Case<'_>| {
        case.end_of.trigger == Trigger::RollingUpdate
            && case.end_of.workload.is_some_and(|w| w.kind == "daemonset")
    },
};
