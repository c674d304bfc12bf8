//! Containers that end, or are not up yet, while their pod is to stay; and connections that their server closed.

use super::world::{APP, CLIENT, POD, World, addr, answered, ended_pod, ms, pod, unanswered};
use crate::{
    input::{ContainerState, Observation, PodState, Side, Sock, TcpCounters, TcpState, Wall, What},
    verdict::{Blame, Outcome, Trigger, Verdict},
};

/// The pod of the story is the newer of two templates: a rollout to its template began at 0.
fn brought() -> World {
    let mut world = World::new();
    world.at(
        0,
        What::Pod(PodState {
            created: Some(Wall(-60_000)),
            ..pod("older", "0", "10.244.1.7")
        }),
    );
    // The older one is heard of first.
    let older = world.inputs.pop().unwrap();
    let newer = world
        .inputs
        .iter()
        .position(|i| matches!(i.what, What::Pod(_)))
        .unwrap();
    world.inputs.insert(newer, older);
    world
}

fn cut(world: &mut World, t: u64) {
    world.server_end(t, TcpState::Established, TcpState::FinWait1, unanswered(), true);
}

fn named(verdict: &Verdict) -> (&str, Blame, Trigger) {
    (verdict.cause(), verdict.blame, verdict.trigger)
}

#[test]
fn a_crash_of_a_new_pod_is_the_rollouts_and_of_an_old_one_is_not() {
    for (mut world, expected) in [
        (
            brought(),
            ("crash-after-ready", Blame::Rollout, Trigger::RollingUpdate),
        ),
        (
            World::new(),
            ("ordinary-crash", Blame::NotTheRollout, Trigger::Crash),
        ),
    ] {
        world.exit_with(116, APP, 50, 1 << 8);
        cut(&mut world, 117);
        assert_eq!(named(&world.only_verdict()), expected);
    }
}

#[test]
fn a_syn_refused_after_a_crash_is_the_crashs() {
    let mut world = brought();
    world.exit_with(116, APP, 50, 11);
    world.listener(117, false, true);
    world.reset(140, "NO_SOCKET", true);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "crash-after-ready");
    assert_eq!(verdict.outcome, Outcome::Refused);
}

#[test]
fn connections_that_a_crash_flushed_out_of_the_queue_are_the_crashs() {
    let mut world = brought();
    world.exit_with(116, APP, 50, 1 << 8);
    world.listener(117, false, true);
    world.reset(117, "TCP_STATE", false);
    world.server_end(117, TcpState::Established, TcpState::Close, unanswered(), true);
    assert_eq!(world.only_verdict().cause(), "crash-after-ready");
}

#[test]
fn an_end_with_the_status_of_a_stop_signal_that_nobody_saw_is_no_crash() {
    for exit_code in [0, 15, 143 << 8, 9] {
        let mut world = brought();
        world.exit_with(116, APP, 50, exit_code);
        cut(&mut world, 117);
        assert_eq!(world.only_verdict().cause(), "unexplained", "{exit_code}");
    }
}

#[test]
fn a_container_that_is_stopped_without_a_deletion_is_the_kubelets_restart() {
    let mut world = brought();
    world.signal(115, APP, 15);
    world.exit(116, APP);
    cut(&mut world, 117);
    assert_eq!(
        named(&world.only_verdict()),
        ("liveness-kill", Blame::Rollout, Trigger::RollingUpdate)
    );
    let mut old = World::new();
    old.signal(115, APP, 15);
    old.listener(116, false, false);
    old.reset(140, "NO_SOCKET", true);
    assert_eq!(
        named(&old.only_verdict()),
        ("ordinary-crash", Blame::NotTheRollout, Trigger::Liveness)
    );
}

#[test]
fn a_stop_signal_of_a_server_to_its_own_worker_is_no_restart() {
    let mut world = brought();
    world.signal(115, APP, 15);
    if let What::Kernel(Observation::Signal { sender_comm, .. }) = &mut world.inputs.last_mut().unwrap().what
    {
        *sender_comm = "nginx".into();
    }
    world.exit(116, APP);
    cut(&mut world, 117);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_child_that_the_oom_killer_chose_takes_its_requests_with_it() {
    let mut world = brought();
    world.oom(110, 50);
    world.kernel_kill(110, 50, 51);
    world.exit_with(116, APP, 50, 9);
    cut(&mut world, 117);
    assert_eq!(
        named(&world.only_verdict()),
        ("oom-kill", Blame::Rollout, Trigger::RollingUpdate)
    );
}

#[test]
fn processes_that_die_with_the_first_one_died_as_it_did() {
    let mut world = brought();
    world.exit_with(115, APP, 40, 1 << 8);
    world.kernel_kill(115, 50, 40);
    world.exit_with(116, APP, 50, 9);
    cut(&mut world, 117);
    assert_eq!(world.only_verdict().cause(), "crash-after-ready");
}

#[test]
fn a_kill_at_the_end_of_a_grace_that_pre_stop_used_up_is_pre_stop_overrun() {
    for (hook, kill, expected) in [
        (Some("sleep:3"), 4_130, "pre-stop-overrun"),
        (None, 4_130, "grace-period-exceeded"),
    ] {
        let mut world = World::new();
        world.delete(100, 2);
        if let What::Pod(state) = &mut world.inputs.last_mut().unwrap().what {
            state.containers[0].pre_stop = hook.map(str::to_owned);
        }
        world.signal(2_120, APP, 15);
        world.signal(kill, APP, 9);
        world.exit(kill, APP);
        cut(&mut world, kill + 1);
        assert_eq!(world.only_verdict().cause(), expected);
    }
}

/// Data that came after the server's FIN: what the server and the client see. `client_closes`: with so many bytes of it
/// not acknowledged.
fn late_request(
    world: &mut World,
    t: u64,
    reason: &str,
    tcp: Option<TcpCounters>,
    client_closes: Option<u32>,
) {
    let sock = Sock {
        netns: crate::input::NetnsInum(7),
        ..World::sock(Side::Server, TcpState::TimeWait, 0, tcp)
    };
    world.kernel(
        t,
        Observation::ResetSent {
            sock,
            reason: Some(reason.into()),
            to_syn: false,
            has_socket: true,
            held: None,
            isn: None,
        },
    );
    let again = TcpCounters {
        bytes_sent: 200,
        bytes_received: 201,
        last_in_after_out_jiffies: -10,
        unacked: client_closes.unwrap_or(0),
        ..answered()
    };
    let (new, err) = match client_closes {
        Some(_) => (TcpState::LastAck, 0),
        None => (TcpState::Close, 32),
    };
    let sock = World::sock(Side::Client, new, err, Some(again));
    world.kernel(
        t + 1,
        Observation::FlowEnd {
            sock,
            old: TcpState::CloseWait,
            new,
            exiting: false,
            tgid: 9,
        },
    );
}

#[test]
fn a_request_on_a_connection_that_a_terminating_server_closed_is_the_keep_alive_race() {
    for reason in ["TCP_TIMEWAIT_SOCKET", "TCP_ABORT_ON_DATA"] {
        let mut world = World::new();
        world.delete(100, 30);
        world.signal(115, APP, 15);
        late_request(&mut world, 300, reason, None, None);
        let verdict = world.only_verdict();
        assert_eq!(
            (verdict.cause(), verdict.outcome),
            ("keep-alive-race", Outcome::ClosedEarly)
        );
        assert_eq!(verdict.client, addr(CLIENT));
    }
}

#[test]
fn a_request_on_a_connection_that_a_living_server_closed_is_not_the_rollouts() {
    let mut world = World::new();
    late_request(&mut world, 300, "TCP_TIMEWAIT_SOCKET", None, None);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.blame),
        ("keep-alive-mismatch", Blame::NotTheRollout)
    );
}

#[test]
fn a_server_that_does_not_know_yet_closes_idle_connections_for_its_own_timeout() {
    for (hook, expected) in [("sleep:5", "keep-alive-mismatch"), ("exec", "keep-alive-race")] {
        let mut world = World::new();
        world.delete(100, 30);
        if let What::Pod(state) = &mut world.inputs.last_mut().unwrap().what {
            state.containers[0].pre_stop = Some(hook.into());
        }
        late_request(&mut world, 300, "TCP_TIMEWAIT_SOCKET", None, None);
        world.signal(5_115, APP, 15);
        assert_eq!(world.only_verdict().cause(), expected);
    }
}

#[test]
fn a_client_that_reads_the_end_of_file_behind_its_request_has_lost_a_request() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    late_request(&mut world, 300, "TCP_TIMEWAIT_SOCKET", None, Some(120));
    assert_eq!(world.only_verdict().cause(), "keep-alive-race");
}

#[test]
fn what_a_client_says_while_it_closes_itself_is_no_request() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    late_request(&mut world, 300, "TCP_TIMEWAIT_SOCKET", None, Some(24));
    let causes: Vec<_> = world.run().0.iter().map(|v| v.cause().to_owned()).collect();
    assert!(!causes.iter().any(|c| c == "keep-alive-race"), "{causes:?}");
}

#[test]
fn the_rest_of_a_request_that_was_cut_is_no_keep_alive_race() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world.exit(116, APP);
    late_request(&mut world, 300, "TCP_ABORT_ON_DATA", Some(unanswered()), None);
    assert_eq!(world.only_verdict().cause(), "immediate-exit");
}

#[test]
fn a_connection_that_the_exit_closed_before_its_first_request_was_not_idle() {
    for asked in [true, false] {
        let mut world = World::new();
        world.delete(100, 30);
        world.signal(115, APP, 15);
        world.exit(116, APP);
        let (old, new) = (TcpState::Established, TcpState::FinWait1);
        world.server_end(116, old, new, TcpCounters::default(), true);
        if asked {
            world.reset(118, "TCP_TIMEWAIT_SOCKET", false);
            let verdict = world.only_verdict();
            assert_eq!(
                (verdict.cause(), verdict.outcome),
                ("immediate-exit", Outcome::ClosedEarly)
            );
        } else {
            assert!(world.run().0.is_empty());
        }
    }
}

/// A pod that the API told of before its container ran, and that has not listened.
fn newborn() -> World {
    let mut world = World::new();
    world
        .inputs
        .retain(|i| !matches!(i.what, What::Pod(_) | What::Kernel(Observation::Listener { .. })));
    let mut state = pod("old", "1", "10.244.1.5");
    state.containers[0].id = String::new();
    state.containers[0].ports = vec![8080];
    world.at(1, What::Pod(state.clone()));
    state.containers[0].id = "c-app".into();
    state.containers[0].state = "running".into();
    world.at(20, What::Pod(state));
    world
}

#[test]
fn a_syn_refused_by_a_new_pod_that_listens_later_is_traffic_before_listening() {
    let mut world = newborn();
    world.reset(140, "NO_SOCKET", true);
    world.listener(640, true, false);
    assert_eq!(world.only_verdict().cause(), "traffic-before-listening");
}

#[test]
fn when_something_was_lost_nobody_knows_that_a_pod_never_listened() {
    let mut world = newborn();
    world.at(
        30,
        What::Loss {
            source: "ring".into(),
            count: 1,
        },
    );
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_container_that_was_restarted_is_not_new() {
    let mut world = newborn();
    let mut state = pod("old", "1", "10.244.1.5");
    state.containers[0] = ContainerState {
        restarts: 1,
        last_state: Some("terminated:1:Error".into()),
        ..state.containers[0].clone()
    };
    world.at(100, What::Pod(state));
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_pod_that_listens_on_a_port_that_it_does_not_declare_is_at_the_wrong_port() {
    let mut world = newborn();
    world.kernel(
        60,
        Observation::Listener {
            place: World::place(APP),
            local: addr("[::]:9090"),
            open: true,
            exiting: false,
            tgid: 50,
        },
    );
    world.reset(140, "NO_SOCKET", true);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "wrong-port");
    assert_eq!(verdict.server, Some(addr(POD)));
    // The same, and the port opens after all.
    world.listener(640, true, false);
    assert_eq!(world.only_verdict().cause(), "traffic-before-listening");
    assert_eq!(world.only_verdict().ended, ms(140));
}

#[test]
fn a_pod_on_its_way_out_that_never_listened_is_not_new() {
    let mut world = ended_pod();
    world
        .inputs
        .retain(|i| !matches!(i.what, What::Kernel(Observation::Listener { .. })));
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}
