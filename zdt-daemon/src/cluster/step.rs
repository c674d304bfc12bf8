//! What follows from one event of one watch, and from its errors.

use super::{
    index::{Index, Tracked},
    reach::{Reach, chain, refusal},
    stream::{Broken, Seen},
    watch::WatchError,
};
use crate::input::{Input, Ktime};

/// One event of one watch. Returns whether the API server was heard.
pub(super) fn step<S: Tracked>(
    at: Ktime,
    index: &mut Index<S>,
    seen: Result<Seen<S::Object>, Broken>,
    reach: &mut Reach,
    inputs: &mut Vec<Input>,
) -> Result<bool, WatchError> {
    let broken = match seen {
        Ok(seen) => {
            if let Some(text) = reach.answered(at) {
                tracing::info!("{text}");
            }
            match seen {
                Seen::Event(event) => index.step(at, event, inputs),
                Seen::Began => index.began(at),
                Seen::Bookmark => {}
            }
            return Ok(true);
        }
        Err(broken) => broken,
    };
    let listed = index.listed();
    let first = !index.broken();
    index.interrupted(at, at, inputs);
    let refusal = refusal(&broken);
    if refusal.is_some()
        && let Some(text) = reach.answered(at)
    {
        tracing::info!("{text}");
    }
    match refusal {
        Some((401, message)) if !listed => return Err(WatchError::Unauthorized(message.to_owned())),
        Some((403, message)) if !listed => {
            return Err(WatchError::Forbidden {
                resource: S::RESOURCE,
                rule: S::RULE,
                message: message.to_owned(),
            });
        }
        // Expired: listed anew (API concepts, "410 Gone responses").
        Some((410, _)) => tracing::debug!("the watch of {} fell behind and lists anew", S::RESOURCE),
        Some((code, message)) if code == 429 || code >= 500 => {
            let text = format!(
                "the API server does not serve the watch of {} ({code}): {message}",
                S::RESOURCE
            );
            if first {
                tracing::warn!("{text}; zdt keeps trying and lowers the confidence of verdicts meanwhile");
            } else {
                tracing::debug!("{text}");
            }
        }
        Some((code, message)) => tracing::warn!(
            "the API server refuses the watch of {} ({code}): {message}; zdt keeps trying. It needs the rule \
             {{{}, verbs: [list, watch]}}",
            S::RESOURCE,
            S::RULE
        ),
        None => {
            if let Some(text) = reach.failed(at, &broken) {
                tracing::warn!("{text}");
            } else {
                tracing::debug!("watch of {}: {}", S::RESOURCE, chain(&broken));
            }
        }
    }
    Ok(refusal.is_some())
}
