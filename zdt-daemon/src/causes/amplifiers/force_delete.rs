//! A pod that the API had forgotten while it still ran.

use super::Amplifier;
use crate::{correlate::Case, verdict::Trigger};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "force-delete",
    id: "E6",
    what: "the pod was deleted by force: its endpoint and its object went at once, while its process still ran and connections were still sent to it",
    applies: |case: &Case<'_>| case.end_of.trigger == Trigger::ForceDelete,
};
