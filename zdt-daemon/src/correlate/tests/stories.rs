//! One failure, or one look-alike, each.

use std::net::SocketAddr;

use super::world::{
    APP, CLIENT, PAUSE, POD, VIP, World, addr, answered, ended_pod, ms, name, pod, unanswered,
};
use crate::{
    input::{
        Observation, PodState, PodUid, Protocol, Side, TcpCounters, TcpState, Translation, Tuple, Wall, What,
    },
    verdict::{Outcome, Trigger},
};

#[test]
fn a_syn_refused_after_the_listener_closed_is_the_endpoint_removal_race() {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.outcome, Outcome::Refused);
    assert_eq!(verdict.service, Some(name("web")));
    assert_eq!(verdict.dialled, Some(addr(VIP)));
    assert_eq!(verdict.server, Some(addr(POD)));
}

#[test]
fn a_deletion_that_this_daemon_learns_of_later_than_the_kubelet_is_the_same_race() {
    let mut world = ended_pod();
    // The reset at 140, the deletion at 155.
    for input in &mut world.inputs {
        if matches!(&input.what, What::Pod(pod) if pod.deletion.is_some()) {
            input.at = ms(155);
        }
    }
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    world.inputs.sort_by_key(|i| i.at);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    let text = format!("{:?}", verdict.judgement);
    assert!(
        text.contains("still routed to it 0 ms after the deletion"),
        "{text}"
    );
}

#[test]
fn a_syn_refused_by_a_pod_that_nobody_asked_to_stop_is_not_the_endpoint_removal_race() {
    let mut world = World::new();
    world.listener(116, false, true);
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_syn_refused_by_a_pod_that_never_listened_is_not_the_endpoint_removal_race() {
    let mut world = ended_pod();
    world
        .inputs
        .retain(|i| !matches!(i.what, What::Kernel(Observation::Listener { .. })));
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn silence_from_an_address_whose_pod_has_ended_is_pod_ip_gone() {
    let mut world = ended_pod();
    world.syn_retransmit(300, 1_320);
    world.translated(1_321, false);
    world.connect_failed(300, 3_300, 0);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "pod-ip-gone");
    assert_eq!(verdict.outcome, Outcome::TimedOut);
    assert_eq!(verdict.began, ms(300));
}

#[test]
fn silence_on_a_port_used_again_is_the_entry_that_the_first_use_left() {
    let mut world = ended_pod();
    for first_syn in [300, 5_000] {
        world.syn_retransmit(first_syn, first_syn + 1_020);
        world.translated(first_syn + 1_021, false);
        world.connect_failed(first_syn, first_syn + 3_000, 0);
    }
    let (verdicts, _) = world.run();
    let causes: Vec<_> = verdicts.iter().map(crate::verdict::Verdict::cause).collect();
    assert_eq!(causes, ["pod-ip-gone", "stale-conntrack-entry"]);
}

#[test]
fn silence_from_a_living_pod_is_unexplained_and_says_so() {
    let mut world = World::new();
    world.syn_retransmit(300, 1_320);
    world.translated(1_321, false);
    world.connect_failed(300, 3_300, 0);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_request_that_was_read_and_cut_by_an_exit_after_sigterm_is_immediate_exit() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world.exit(116, APP);
    world.server_end(117, TcpState::Established, TcpState::FinWait1, unanswered(), true);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "immediate-exit");
    assert_eq!(verdict.outcome, Outcome::ClosedEarly);
}

#[test]
fn a_request_that_was_not_read_and_reset_by_an_exit_after_sigterm_is_immediate_exit() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world.exit(116, APP);
    world.reset(117, "TCP_ABORT_ON_CLOSE", false);
    let unread = TcpCounters {
        unread: 100,
        ..unanswered()
    };
    world.server_end(117, TcpState::Established, TcpState::Close, unread, true);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("immediate-exit", Outcome::Reset)
    );
}

#[test]
fn an_answered_request_is_no_failure_even_when_its_server_exits() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world.server_end(117, TcpState::Established, TcpState::FinWait1, answered(), true);
    assert!(world.run().0.is_empty());
}

#[test]
fn a_kill_at_the_end_of_the_grace_is_grace_period_exceeded() {
    let mut world = World::new();
    world.delete(100, 2);
    world.signal(115, APP, 15);
    world.signal(2_116, APP, 9);
    world.exit(2_117, APP);
    world.server_end(
        2_118,
        TcpState::Established,
        TcpState::FinWait1,
        unanswered(),
        true,
    );
    assert_eq!(world.only_verdict().cause(), "grace-period-exceeded");
}

#[test]
fn the_kill_of_the_sandbox_is_not_the_end_of_the_grace() {
    let mut world = World::new();
    world.delete(100, 0);
    world.signal(115, APP, 15);
    world.signal(116, PAUSE, 9);
    world.exit(117, APP);
    world.server_end(118, TcpState::Established, TcpState::FinWait1, unanswered(), true);
    assert_eq!(world.only_verdict().cause(), "immediate-exit");
}

#[test]
fn a_client_that_leaves_first_is_not_the_rollouts() {
    let mut world = World::new();
    world.delete(100, 30);
    let sent = TcpCounters {
        bytes_sent: 100,
        bytes_acked: 100,
        data_segs_out: 1,
        ..Default::default()
    };
    let sock = World::sock(Side::Client, TcpState::FinWait1, 0, Some(sent));
    let (old, new) = (TcpState::Established, TcpState::FinWait1);
    world.kernel(
        200,
        Observation::FlowEnd {
            sock,
            old,
            new,
            exiting: false,
            tgid: 9,
        },
    );
    let received = TcpCounters {
        bytes_received: 101,
        ..Default::default()
    };
    world.server_end(201, TcpState::CloseWait, TcpState::LastAck, received, false);
    let (verdicts, rollouts) = world.run();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].cause(), "client-abort");
    assert_eq!((rollouts[0].failed, rollouts[0].not_the_rollout), (0, 1));
}

#[test]
fn a_refused_probe_of_the_kubelet_is_no_request() {
    let mut world = ended_pod();
    let probe = addr("10.244.1.1:50000");
    let mut sock = World::sock(Side::Server, TcpState::Close, 0, None);
    sock.remote = probe;
    let reason = Some("NO_SOCKET".into());
    world.kernel(
        140,
        Observation::ResetSent {
            sock,
            reason,
            to_syn: true,
            has_socket: false,
            held: None,
            isn: None,
        },
    );
    let tcp = Some(TcpCounters {
        first_syn: Some(ms(140)),
        ..Default::default()
    });
    let mut sock = World::sock(Side::Client, TcpState::Close, 111, tcp);
    (sock.local, sock.remote, sock.netns.0) = (probe, addr(POD), 1);
    let (old, new) = (TcpState::SynSent, TcpState::Close);
    world.kernel(
        141,
        Observation::FlowEnd {
            sock,
            old,
            new,
            exiting: false,
            tgid: 3,
        },
    );
    let (verdicts, rollouts) = world.run();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].cause(), "kubelet-probe");
    assert_eq!(rollouts[0].failed, 0);
}

#[test]
fn a_port_used_again_is_another_request() {
    let mut world = ended_pod();
    for t in [130, 150] {
        world.reset(t, "NO_SOCKET", true);
        world.connect_failed(t, t + 1, 111);
    }
    let (verdicts, _) = world.run();
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    assert!(verdicts.iter().all(|v| v.cause() == "endpoint-removal-race"));
}

#[test]
fn a_rollout_is_summed_up_with_the_sleep_that_prevents_it() {
    let mut world = ended_pod();
    world.at(
        50,
        What::Pod(PodState {
            created: Some(Wall(5_000)),
            ..pod("new", "2", "10.244.1.6")
        }),
    );
    world.inputs.sort_by_key(|i| i.at);
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    let mut flow = |port: u16, first_syn: u64| {
        let client = SocketAddr::new(addr(CLIENT).ip(), port);
        let tcp = Some(TcpCounters {
            first_syn: Some(ms(first_syn)),
            ..Default::default()
        });
        let mut sock = World::sock(Side::Client, TcpState::SynSent, 0, tcp);
        sock.local = client;
        world.kernel(
            first_syn + 1_020,
            Observation::Retransmit {
                sock: sock.clone(),
                err: 0,
                silent_ms: None,
            },
        );
        let tuple = |from, to| Tuple { from, to };
        let reply = Some(tuple(addr(POD), client));
        let translation = Translation {
            protocol: Protocol::Tcp,
            orig: tuple(client, addr(VIP)),
            reply,
            replied: false,
        };
        world.at(first_syn + 1_021, What::Translation(translation));
        let (old, new) = (TcpState::SynSent, TcpState::Close);
        world.kernel(
            first_syn + 3_000,
            Observation::FlowEnd {
                sock,
                old,
                new,
                exiting: false,
                tgid: 9,
            },
        );
    };
    flow(41_000, 900);
    flow(42_000, 1_900);
    world.at(
        6_000,
        What::PodGone {
            uid: PodUid("old".into()),
        },
    );
    let (verdicts, rollouts) = world.run();
    assert_eq!(verdicts.len(), 3);
    let [rollout] = rollouts.as_slice() else {
        panic!("{rollouts:#?}")
    };
    assert_eq!(
        (rollout.trigger, rollout.pods, rollout.failed),
        (Trigger::RollingUpdate, 1, 3)
    );
    assert_eq!(rollout.to.as_ref().map(|r| r.template_hash.as_str()), Some("2"));
    // Routed until 1,900 - 100 = 1,800 ms after the deletion, served for 16 ms, margin 1,000 ms: 2.784 s.
    let [advice] = rollout.advice.as_slice() else {
        panic!("{:#?}", rollout.advice)
    };
    assert_eq!(
        (advice.setting.as_str(), advice.value, advice.prevents),
        ("lifecycle.preStop.sleep.seconds", Some(3), 3)
    );
}

#[test]
fn a_rollout_that_lost_nothing_says_so() {
    let mut world = ended_pod();
    world.at(
        200,
        What::PodGone {
            uid: PodUid("old".into()),
        },
    );
    for t in (1..120).map(|i| i * 250) {
        world.at(200 + t, What::Tick);
    }
    let (verdicts, rollouts) = world.run();
    assert!(verdicts.is_empty());
    assert_eq!(rollouts.len(), 1);
    assert_eq!((rollouts[0].failed, rollouts[0].trigger), (0, Trigger::ScaleDown));
}
