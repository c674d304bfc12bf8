//! X6: the kubelet's probe met a closed listener or was cut. No client's request.

use super::{Rule, Sample, Setting};
use crate::{
    correlate::Case,
    input::Tuple,
    verdict::{Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "kubelet-probe",
    id: "X6",
    blame: Blame::NotARequest,
    what: "a probe of the kubelet failed: no client's request",
    told_by: "the connection came from the node itself, from no pod, straight to a pod's address, on a port that the pod \
              declares a probe for. A masqueraded client has no socket on the node, and conntrack knows what it had dialled; \
              a host-network proxy is a pod.",
    remedy: "nothing: readiness probes go on while a pod terminates, and are refused once it stops listening",
    fix: None,
    needs: &["inet_sock_set_state"],
    judge,
    summarise: |_, _| "probes of the kubelet that failed".to_owned(),
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let pod = case.target.pod?;
    let server = case.server?;
    let probed = pod
        .state
        .containers
        .iter()
        .any(|c| c.probe_ports.contains(&server.port()));
    if !probed || !case.client_is_node() {
        return None;
    }
    let flow = case.flow;
    if flow.dialled() != Some(server) {
        return None;
    }
    // Its own socket, dialling the pod's address itself; or conntrack's entry, which has it so. Without these the address may
    // be a masquerade.
    let own_socket = flow.client_end.is_some() || flow.client_got_reset.is_some();
    let untranslated = Tuple {
        from: server,
        to: flow.client(),
    };
    if !own_socket && flow.translated().and_then(|t| t.reply) != Some(untranslated) {
        return None;
    }
    let because = format!("a probe of {} from node {} failed", case.pod_name(), case.node);
    let evidence = vec![case.evidence(
        case.ended,
        format!("{} on probe port {}", case.outcome, server.port()),
    )];
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}
