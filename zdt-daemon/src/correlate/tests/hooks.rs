//! What a node does not tell, since a hook is missing, makes verdicts unsure, and they say so.

use super::world::{World, ended_pod, unanswered};
use crate::{
    input::{TcpState, What},
    verdict::{Confidence, Judgement, Verdict},
};

/// The story's only verdict, on a node that does not tell these.
fn without(mut world: World, missing: &[&str]) -> Verdict {
    for input in &mut world.inputs {
        if let What::Start(start) = &mut input.what {
            start.missing = missing.iter().map(|m| (*m).to_owned()).collect();
        }
    }
    world.only_verdict()
}

fn refused() -> World {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    world
}

#[track_caller]
fn unsure(verdict: &Verdict, hook: &str) {
    assert_eq!(verdict.confidence, Confidence::Degraded { lost: 0 });
    let gaps: Vec<&str> = verdict.gaps.iter().map(|g| g.of.as_str()).collect();
    assert_eq!(gaps, [format!("hook {hook}")]);
    let said = verdict.gaps[0].to_string();
    assert!(said.contains(hook) && said.contains("zdt doctor"), "{said}");
}

#[test]
fn a_cause_whose_hook_is_missing_is_unsure_and_says_why() {
    let sure = without(refused(), &[]);
    assert_eq!(sure.cause(), "endpoint-removal-race");
    assert_eq!((sure.confidence, sure.gaps.len()), (Confidence::Full, 0));

    let verdict = without(refused(), &["tcp_send_reset/no_socket"]);
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    unsure(&verdict, "tcp_send_reset/no_socket");

    // Nothing about it could have been told by these.
    for other in ["mark_victim", "cgroup_skb_egress", "net_dev_queue", "icmp_send"] {
        let verdict = without(refused(), &[other]);
        assert_eq!(verdict.confidence, Confidence::Full, "{other}");
        assert_eq!(verdict.gaps, sure.gaps);
    }
}

#[test]
fn a_look_alike_that_is_told_by_a_missing_hook_is_unsure_too() {
    // Nobody saw whether the client's kernel sent a RST for nobody: that is no client that hung up.
    let hung_up = || {
        let mut world = World::new();
        world.server_end(102, TcpState::CloseWait, TcpState::LastAck, unanswered(), false);
        world
    };
    let sure = without(hung_up(), &[]);
    assert_eq!(
        (sure.cause(), sure.confidence),
        ("client-abort", Confidence::Full)
    );
    let verdict = without(hung_up(), &["tcp_send_reset/no_socket"]);
    assert_eq!(verdict.cause(), "client-abort");
    unsure(&verdict, "tcp_send_reset/no_socket");
}

#[test]
fn what_is_unexplained_says_which_causes_it_cannot_have_been_told() {
    let mut world = World::new();
    // Nobody named its server.
    world.syn_retransmit(300, 1_320);
    world.connect_failed(300, 3_300, 0);
    let verdict = without(world, &["kfree_skb", "kfree_skb/reason"]);
    let Judgement::Unexplained { missing, .. } = &verdict.judgement else {
        panic!("{verdict:?}");
    };
    let told = missing
        .iter()
        .find(|m| m.starts_with("kfree_skb/reason"))
        .unwrap();
    assert!(
        told.contains("not told on this node") && told.contains("policy-drop"),
        "{told}"
    );
    assert_ne!(verdict.confidence, Confidence::Full);
}
