//! X6: somebody tried a port that nobody has ever served: a scan, a wrong address.

use super::{Rule, Sample, Setting};
use crate::{
    correlate::Case,
    verdict::{Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "port-never-served",
    id: "X6",
    blame: Blame::NotTheRollout,
    what: "a pod was dialled, itself and not a service, on a port that was never anybody's: a port scan, or a client with a \
           wrong address",
    told_by: "no endpoint slice has ever had this port at this address, no container of the pod declares or is probed on it, and \
              nothing in the pod has listened on it as long as it is known; a new pod listens on others by then. With or \
              without a rollout, living or dead, it could not have answered. Not a service's port that the application does \
              not open (wrong-port), or not yet (traffic-before-listening): these are in the slices. Of a pod of another node \
              its ports are not known, and nothing is concluded.",
    remedy: "nothing in the rollout",
    fix: None,
    needs: &["inet_sock_set_state"],
    judge,
    summarise: |_, _| "ports that no service and no container ever had".to_owned(),
    advise: |_: &[&Sample], _: &Setting| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let server = case.server?;
    let pod = case.target.pod.filter(|p| p.known)?;
    let port = server.port();
    // A rule, or an old entry of one, sent it there.
    let directly = case.flow.dialled().is_none_or(|dialled| dialled == server);
    if !case.flow.failed_to_connect() || !directly || case.endpoints.is_endpoint(server) {
        return None;
    }
    let containers = &pod.state.containers;
    let declared = containers
        .iter()
        .any(|c| c.ports.contains(&port) || c.probe_ports.contains(&port));
    if declared || pod.has_listened(port, case.now) {
        return None;
    }
    // A new one that has opened nothing yet may open this one, too.
    let others = pod
        .listeners
        .iter()
        .any(|l| l.opened.is_none_or(|o| o <= case.ended));
    let ended = pod.network_down().is_some_and(|down| down <= case.ended);
    if pod.from_birth && !others && !ended {
        return None;
    }
    let name = case.pod_name();
    let because = format!(
        "{} on port {port} of {name}, which no service and no container has ever had",
        case.outcome
    );
    let mut evidence = vec![
        case.evidence(
            pod.first_seen,
            "the pod was first seen; it has not listened on this port since",
        ),
        case.evidence(
            case.flow.began,
            format!("SYN from {} to the pod's own address", case.flow.client()),
        ),
        case.evidence(case.ended, case.outcome.to_string()),
    ];
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}
