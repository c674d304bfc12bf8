//! B6: the connection was older than the endpoint's removal, and conntrack (or the client) kept it on the pod.

use super::{Amplifier, slow_endpoint_removal::SYNC_MS};
use crate::{
    correlate::{Case, Phase},
    input::Ktime,
};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "pinned-connection",
    id: "B6",
    what: "an established connection was cut that was older than the removal of its endpoint: connections that stay (keep-alive, \
           HTTP/2, gRPC, WebSocket) are sent to the pod that they began with until they end",
    applies,
};

/// Nobody can say when an established connection began, except where its SYN was seen. But none that a service sends to
/// the pod begins after its endpoint was removed, so one that ends later is older.
fn applies(case: &Case<'_>) -> bool {
    if case.phase != Phase::Established {
        return false;
    }
    let older = |removed: Ktime| {
        let began = case.flow.forwarded.map(|f| f.first);
        removed < case.ended && began.is_none_or(|b| b < removed)
    };
    removed(case).is_some_and(older)
}

/// From when on no new connection is sent to it.
fn removed(case: &Case<'_>) -> Option<Ktime> {
    let told = case.target.endpoint.and_then(|e| e.terminating.or(e.removed));
    if case.server.is_some() && case.flow.dialled() == case.server {
        // The client chooses among the endpoints by itself.
        return told;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a constant"
    )]
    let synced = || told.map(|told| told.plus_ms(SYNC_MS as u64));
    match case.routes.routed(case.server?, case.ended) {
        // Rules that are known say it, or that it is not yet.
        Some(true) => None,
        Some(false) => case.rules_dropped(),
        None => synced().filter(|_| case.rules_dropped().is_none()),
    }
}
