//! D3: the node's rules still led to the endpoint long after its slice had said that it is terminating.

use super::Amplifier;
use crate::correlate::{Case, Phase, Policy};

/// By then a kube-proxy that keeps up has written it: it syncs once in `minSyncPeriod`, 1 s by default
/// (kubernetes/kubernetes pkg/proxy/apis/config/v1alpha1/defaults.go), and a sync of a small cluster takes some 20 ms
/// (measured: +22 to +1,022 ms behind the deletion).
pub(super) const SYNC_MS: f64 = 1_100.0;

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "slow-endpoint-removal",
    id: "D3",
    what: "the connection began more than 1.1 s after the endpoint slice had said terminating, and the node's rules still led \
           to the pod: kube-proxy is late (minSyncPeriod is 1 s by default)",
    applies,
};

fn applies(case: &Case<'_>) -> bool {
    let nobody_ready = case
        .choice_when_begun(Policy::Cluster)
        .is_some_and(|choice| choice.ready == 0);
    let told = case.target.endpoint.and_then(|e| {
        // Where no endpoint is ready, rules lead to terminating ones by design (KEP-1669).
        let terminating = e.terminating.filter(|_| !nobody_ready);
        terminating.or(e.removed)
    });
    let late = told.is_some_and(|told| case.flow.began.ms_since(told) > SYNC_MS);
    case.phase == Phase::Connect && late && case.routed_when_begun() == Some(true)
}
