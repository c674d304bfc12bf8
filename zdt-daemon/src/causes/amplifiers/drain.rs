//! A drain that took every ready endpoint.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "drain",
    id: "E7",
    what: "the node was drained: several pods were evicted at once, and no endpoint of the service was ready until their successors were, elsewhere",
    applies: |case: &Case<'_>| case.nobody_ready() && case.end_of.trigger == Trigger::Drain,
};
