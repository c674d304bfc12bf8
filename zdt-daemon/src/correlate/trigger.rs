//! Who started what broke a request.

use super::case::Case;
use crate::{
    causes,
    input::Ktime,
    verdict::{Blame, Trigger},
};

/// The endpoint slices follow a service's selector within this time: the controller works at its queue at once, and no
/// sooner than 1 s after its last update of the slices (pkg/controller/endpointslice, endpointSliceChangeMinSyncDelay);
/// room for a loaded one.
pub(super) const SLICES_FOLLOW_MS: u64 = 5_000;

/// A pod's end has somebody who ended it. A pod that lives was brought by somebody, or its container ended by itself, or
/// its service came to select it, or others.
pub(super) fn of(case: &Case<'_>, blame: Blame) -> Trigger {
    let lives = case
        .target
        .pod
        .is_some_and(|p| p.known && !p.ending_at(case.ended));
    if blame == Blame::NotARequest {
        return Trigger::None;
    }
    // What is not the rollout's has no other trigger than its container's own end.
    if blame != Blame::NotTheRollout {
        if !lives && case.end_of.trigger != Trigger::None {
            return case.end_of.trigger;
        }
        if switched(case) {
            return Trigger::SelectorSwitch;
        }
        if !lives {
            return Trigger::None;
        }
        if case.brought.is_some() {
            return case.brought_by;
        }
    }
    causes::ended_by(case).unwrap_or_default()
}

/// The service selects other pods than before, and that brought this endpoint in, or took the last one out.
fn switched(case: &Case<'_>) -> bool {
    let Some(changed) = case.service.and_then(|s| case.endpoints.selector_changed(s)) else {
        return false;
    };
    let follows = |at: Ktime| changed <= at && at <= changed.plus_ms(SLICES_FOLLOW_MS);
    let came = || case.target.endpoint.is_some_and(|e| follows(e.added));
    let went = || {
        case.lost()
            .is_some_and(|(at, _, e)| e.terminating.is_none() && follows(at))
    };
    came() || went()
}
