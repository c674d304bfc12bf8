//! The strategy Recreate.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "recreate",
    id: "E1",
    what: "the strategy Recreate ends every old pod before it makes the first new one: in between no endpoint is ready",
    applies: |case: &Case<'_>| case.nobody_ready() && case.end_of.trigger == Trigger::Recreate,
};
