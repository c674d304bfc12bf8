//! D7: a packet of the pod that conntrack found invalid reached the client untranslated, and the client's kernel reset the pod.

use super::{Rule, Sample, Setting, fix, say_ms};
use crate::{
    correlate::{Case, Phase},
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "invalid-spurious-reset",
    id: "D7",
    blame: Blame::NotTheRollout,
    what: "conntrack found a packet of the pod invalid (out of window, late) and did not translate it back; the client's \
           kernel knew no such connection and sent a RST, which ended the pod's side of a living one",
    told_by: "a RST without a socket, from the address of the client (or of the node that masqueraded it) to the pod's own \
              address, which the client never dialled; then the pod's side of that connection was reset. A client that \
              hangs up resets with its own socket and to the address that it dialled. Load brings it, not a rollout.",
    remedy: "nf_conntrack_tcp_be_liberal=1, or a rule that drops INVALID: kube-proxy's KUBE-FORWARD has one in iptables mode, \
             for what is forwarded, not for what comes to the node itself; its nftables mode has none",
    fix: Some(fix::BE_LIBERAL),
    needs: &[
        "tcp_send_reset",
        "tcp_receive_reset",
        "inet_sock_set_state",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise: |_, _| {
        "a packet that conntrack found invalid made the client's kernel reset the pod".to_owned()
    },
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    if case.phase != Phase::Established {
        return None;
    }
    let stray = flow.stray_reset?;
    let server = case.server?;
    let dialled = flow.dialled().filter(|d| *d != server)?;
    let reset = flow.server_was_reset().filter(|at| *at >= stray)?;
    // Nobody had ended the connection before.
    let over = |at| at < stray;
    let ends = [&flow.client_end, &flow.server_end].into_iter().flatten();
    if ends.map(|e| e.at).any(over) || flow.server_reset.as_ref().is_some_and(|r| over(r.at)) {
        return None;
    }
    let from = flow.client_as_seen();
    let because = format!(
        "{from} sent a RST to {server}, which nobody had dialled: a packet of {} reached it untranslated, and {} lost its \
         connection to {dialled}",
        case.pod_name(),
        flow.client(),
    );
    let mut evidence = vec![
        case.evidence(stray, format!("RST without a socket from {from} to {server}")),
        case.evidence(
            reset,
            format!(
                "{} got it {} later, on the connection that {} had dialled as {dialled}",
                case.pod_name(),
                say_ms(reset.ms_since(stray)),
                flow.client(),
            ),
        ),
    ];
    if let Some(counted) = case.conntrack.counted(stray, stray).filter(|c| c.invalid > 0) {
        let text = format!(
            "conntrack of node {}: {} packets invalid",
            case.node, counted.invalid
        );
        evidence.push(case.evidence(counted.read, text));
    }
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "net.netfilter.nf_conntrack_tcp_be_liberal=1 on the nodes".to_owned(),
        value: None,
        because: format!(
            "packets that conntrack of node {} found invalid went on untranslated",
            setting.node
        ),
        prevents: 0,
    })
}
