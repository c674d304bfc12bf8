//! What made a failure worse than its cause alone would have: one file each, a name and a predicate over the case.
//!
//! An amplifier is said of one failed request, by a causal link as a cause is (invariant I12): without it, this request
//! would not have failed, or not for so long. Only what a rollout broke has amplifiers.

mod daemon_set_gap;
mod drain;
mod force_delete;
mod no_surge;
mod pinned_connection;
mod recreate;
mod single_replica;
mod slow_endpoint_removal;
mod stateful_set_order;
mod stuck_after_fix;

use crate::correlate::Case;

/// One amplifier.
#[derive(Debug)]
pub struct Amplifier {
    /// kebab-case; the only place where it is spelled.
    pub name: &'static str,
    /// Id in the catalogue of failure modes.
    pub id: &'static str,
    /// What it is, in one sentence.
    pub what: &'static str,
    pub applies: fn(&Case<'_>) -> bool,
}

/// Every amplifier, by name. A verdict names all that apply.
pub const AMPLIFIERS: &[&Amplifier] = &[
    &daemon_set_gap::AMPLIFIER,
    &drain::AMPLIFIER,
    &force_delete::AMPLIFIER,
    &no_surge::AMPLIFIER,
    &pinned_connection::AMPLIFIER,
    &recreate::AMPLIFIER,
    &single_replica::AMPLIFIER,
    &slow_endpoint_removal::AMPLIFIER,
    &stateful_set_order::AMPLIFIER,
    &stuck_after_fix::AMPLIFIER,
];

/// Names of those that apply, sorted.
pub(crate) fn of(case: &Case<'_>) -> Vec<&'static str> {
    let applying = AMPLIFIERS.iter().filter(|a| (a.applies)(case));
    let mut names: Vec<_> = applying.map(|a| a.name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::AMPLIFIERS;

    #[test]
    fn amplifiers_stand_in_the_order_of_their_names() {
        let names: Vec<_> = AMPLIFIERS.iter().map(|a| a.name).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
}
