//! What was lost lowers the confidence of the verdicts that may rest on it.

use super::world::{World, ended_pod, unanswered};
use crate::{
    correlate::{Correlator, Settings},
    input::{Input, Ktime, PodState, PodUid, TcpCounters, TcpState, What},
    verdict::Confidence,
};

#[test]
fn loss_lowers_confidence_and_changes_no_cause() {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    world.at(250, What::Tick);
    world.at(
        400,
        What::Loss {
            source: "ring".into(),
            count: 3,
        },
    );
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.confidence, Confidence::Degraded { lost: 3 });
}

#[test]
fn a_loss_touches_the_verdicts_that_rest_on_it_and_no_other() {
    let confidence = |story: fn(&mut World), source: &str| {
        let mut world = ended_pod();
        story(&mut world);
        let source = source.to_owned();
        world.at(3_400, What::Loss { source, count: 1 });
        world.inputs.sort_by_key(|i| i.at);
        world.only_verdict().confidence
    };
    let silence: fn(&mut World) = |world| {
        world.syn_retransmit(300, 1_320);
        world.translated(1_321, false);
        world.connect_failed(300, 3_300, 0);
    };
    let cut: fn(&mut World) = |world| {
        world.server_end(
            3_300,
            TcpState::Established,
            TcpState::FinWait1,
            unanswered(),
            true,
        );
    };
    let left: fn(&mut World) = |world| {
        let received = TcpCounters {
            bytes_received: 101,
            ..Default::default()
        };
        world.server_end(3_300, TcpState::CloseWait, TcpState::LastAck, received, false);
    };
    let lost = Confidence::Degraded { lost: 1 };
    // Which pod ended is told by processes; whether the rules sent it there, by the rules.
    assert_eq!(confidence(silence, "rules"), lost);
    assert_eq!(confidence(silence, "ring:percpu_free_percpu/xt_replace"), lost);
    assert_eq!(confidence(silence, "ring:net_dev_queue"), lost);
    assert_eq!(confidence(silence, "ring:signal_generate"), lost);
    // Whether a connection that was cut was pinned is told by the rules, too.
    assert_eq!(confidence(cut, "rules"), lost);
    assert_eq!(confidence(left, "rules"), Confidence::Full);
    assert_eq!(confidence(cut, "ring:kfree_skb"), Confidence::Full);
    assert_eq!(confidence(cut, "ring:signal_generate"), lost);
}

#[test]
fn what_a_bound_costs_is_counted() {
    let mut correlator = Correlator::new(Settings {
        max_pods: 2,
        ..Settings::default()
    });
    for n in 1..=5 {
        let state = PodState {
            uid: PodUid(format!("uid-{n}")),
            ..PodState::default()
        };
        let what = What::Pod(state);
        correlator.step(&Input { at: Ktime(n), what }, &mut Vec::new());
    }
    let tables = correlator.tables();
    let pods = tables.iter().find(|t| t.name == "pods").unwrap();
    assert_eq!((pods.entries, pods.evicted), (2, 3));
}
