//! A service with one endpoint.

use super::Amplifier;
use crate::correlate::{Case, Policy};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "single-replica",
    id: "E1",
    what: "the service had a single ready endpoint before: whatever ends it leaves nobody",
    applies,
};

/// Asked of the moment before the last endpoint was lost.
fn applies(case: &Case<'_>) -> bool {
    let before = || {
        let (lost, ..) = case.lost()?;
        let dialled = case.dialled()?;
        case.endpoints
            .choice(&dialled, Policy::Cluster, lost.minus_ms(BEFORE_MS))
    };
    case.nobody_ready() && before().is_some_and(|choice| choice.ready == 1)
}

/// Of several pods that go one after the other the last one is alone at its end: asked this much earlier. Pods of one
/// operation are deleted within milliseconds; a rolling update waits for each successor.
const BEFORE_MS: u64 = 1_000;
