//! C8b: clients are sent to a port on which the new pods do not listen.

use super::{Rule, Sample, Setting, fix, sample::say_ms, unheard::never_heard};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "wrong-port",
    id: "C8b",
    blame: Blame::Rollout,
    what: "the service sends clients to a port on which the pod has never listened, while it listens on another one",
    told_by: "a living pod refused a SYN on a port that it has not opened even now, and had opened another one; and the pod's \
              own declaration of ports agrees with one of the two only. An application that opens its ports one after the \
              other opens this one, too, in the end (traffic-before-listening).",
    remedy: "the service's targetPort, the container's port and the application's setting must agree; to move a port, listen \
             on both for the time of the rollout",
    fix: Some(fix::TARGET_PORT),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise: |_, _| "sent to a port on which the pod does not listen".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let (reset, pod) = never_heard(case)?;
    let port = case.server?.port();
    if pod.has_listened(port, case.now) {
        return None;
    }
    let declared = |p: u16| pod.state.containers.iter().any(|c| c.ports.contains(&p));
    // A loopback listener serves nobody outside the pod.
    let other = pod
        .listening(reset.at)
        .filter(|l| !l.local.ip().is_loopback())
        .find(|l| declared(l.local.port()) != declared(port))?;
    let opened = other.opened?;
    let (has, has_not) = if declared(port) {
        ("declares", "does not declare")
    } else {
        ("does not declare", "declares")
    };
    let because = format!(
        "SYN refused: {} has never listened on port {port}, which it {has}; it listens on port {}, which it {has_not}",
        case.pod_name(),
        other.local.port(),
    );
    let after = say_ms(reset.at.ms_since(opened));
    let reason = reset.reason.as_deref().unwrap_or("no reason given");
    let evidence = vec![
        case.evidence(pod.first_seen, "the pod was made"),
        case.evidence(opened, format!("listener {} opened", other.local)),
        case.evidence(
            reset.at,
            format!("RST to a SYN for port {port} {after} after that, {reason}"),
        ),
        case.evidence(case.now, format!("nothing has listened on port {port} by now")),
    ];
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "spec.ports[].targetPort of the Service, or the port that the application listens on"
            .to_owned(),
        value: None,
        because: "the service's target port and the application's port do not agree".to_owned(),
        prevents: 0,
    })
}
