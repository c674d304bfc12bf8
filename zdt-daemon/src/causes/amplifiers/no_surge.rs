//! A rolling update that took pods away before it brought others.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "no-surge",
    id: "E1",
    what: "the rolling update removed old pods before new ones were ready, until no endpoint was: maxSurge 0, or maxUnavailable as large as the workload",
    applies: |case: &Case<'_>| {
        case.nobody_ready()
            && case.end_of.trigger == Trigger::RollingUpdate
            && case.end_of.workload.is_none_or(|w| w.kind == "deployment")
    },
};
