//! What the answers themselves tell: errors of a pod on its way out, and answers that its end cut.

use super::world::{APP, CLIENT, PAUSE, POD, World, addr, answered, ms, name, pod, unanswered};
use crate::{
    input::{
        AnswerEnd, Attribution, Body, CgroupId, ContainerState, Deletion, NetnsInum, Observation, PodState,
        PodUid, Protocol, Side, TcpCounters, TcpState, Translation, Tuple, Wall, What,
    },
    verdict::{Blame, Outcome, Verdict},
};

/// The node's own address.
const NODE: &str = "10.244.1.1:55000";

fn answer(world: &mut World, t: u64, client: &str, status: u16, body: Body, end: Option<AnswerEnd>) {
    let mut sock = World::sock(Side::Server, TcpState::Established, 0, None);
    sock.remote = addr(client);
    if end.is_none() {
        // The program of a cgroup knows no network namespace.
        sock.netns = NetnsInum(0);
    }
    world.kernel(
        t,
        Observation::Answer {
            sock,
            status,
            body,
            end,
        },
    );
}

fn error(world: &mut World, t: u64) {
    answer(world, t, CLIENT, 503, Body::Length(3), None);
}

/// Deleted at 100 ms, SIGTERM at 115.
fn told() -> World {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world
}

fn opened(world: &mut World, t: u64, from: &str, to: &str, seen_as: &str) {
    let reply = Tuple {
        from: addr(POD),
        to: addr(seen_as),
    };
    let orig = Tuple {
        from: addr(from),
        to: addr(to),
    };
    world.at(
        t,
        What::Translation(Translation {
            protocol: Protocol::Tcp,
            orig,
            reply: Some(reply),
            replied: true,
        }),
    );
}

#[test]
fn each_error_behind_the_stop_signal_is_a_failed_request_of_its_own() {
    let mut world = told();
    for t in [200, 210, 210] {
        error(&mut world, t);
    }
    world.translated(211, true);
    let (verdicts, rollouts) = world.run();
    assert_eq!(verdicts.len(), 3);
    for verdict in &verdicts {
        assert_eq!(
            (verdict.cause(), verdict.outcome, verdict.blame),
            ("error-while-draining", Outcome::ServedError, Blame::Rollout)
        );
        assert!(verdict.service.is_some());
    }
    assert!(verdicts[0].id.ends_with("@1700000000.200"), "{}", verdicts[0].id);
    assert_eq!(rollouts[0].failed, 3);
    assert_eq!(
        rollouts[0].causes[0].summary,
        "answered with errors for 95 ms after it was told to stop"
    );
}

#[test]
fn error_of_a_pod_that_lives_is_no_failure_of_a_rollout() {
    let mut world = World::new();
    error(&mut world, 90);
    assert!(world.run().0.is_empty());
    // Nor is one between its deletion and the signal; nor, then, are those behind it.
    world.delete(100, 30);
    error(&mut world, 110);
    world.signal(115, APP, 15);
    error(&mut world, 200);
    assert!(world.run().0.is_empty());
}

#[test]
fn probe_that_a_terminating_pod_answers_with_an_error_hides_nothing() {
    let mut world = World::new();
    let probed = |deletion| PodState {
        deletion,
        containers: vec![ContainerState {
            name: "app".into(),
            probe_ports: vec![8080],
            ..ContainerState::default()
        }],
        ..pod("old", "1", "10.244.1.5")
    };
    let deletion = Deletion {
        timestamp: Wall(0),
        grace_s: 30,
    };
    world.at(100, What::Pod(probed(Some(deletion))));
    answer(&mut world, 110, NODE, 503, Body::Length(3), None);
    opened(&mut world, 110, NODE, POD, NODE);
    world.signal(115, APP, 15);
    answer(&mut world, 120, NODE, 503, Body::Length(3), None);
    opened(&mut world, 120, NODE, POD, NODE);
    error(&mut world, 130);
    let causes: Vec<_> = world.run().0.iter().map(Verdict::cause).collect();
    assert_eq!(causes, ["kubelet-probe", "error-while-draining"]);
}

#[test]
fn masqueraded_client_is_known_by_conntrack_and_without_it_nothing_is_guessed() {
    let mut world = told();
    answer(&mut world, 200, NODE, 503, Body::Length(3), None);
    assert_eq!(world.only_verdict().cause(), "unexplained");
    opened(&mut world, 201, "198.51.100.2:4000", "10.244.1.1:30080", NODE);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "error-while-draining");
    assert_eq!(verdict.client, addr("198.51.100.2:4000"));
    assert_eq!(verdict.service, Some(name("web")));
    assert!(verdict.id.starts_with(NODE), "{}", verdict.id);
}

#[test]
fn proxy_that_is_stopped_after_the_application_errs_because_that_is_gone() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, PAUSE, 15);
    error(&mut world, 200);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "error-while-draining");
}

#[test]
fn pod_of_another_cluster_with_the_same_address_is_left_out() {
    let mut world = told();
    let mut place = World::place(CgroupId(900));
    place.attribution = Attribution::Pod {
        uid: PodUid("theirs".into()),
        container: "c".into(),
    };
    world.kernel(
        110,
        Observation::Listener {
            place,
            local: addr(POD),
            open: true,
            exiting: false,
            tgid: 900,
        },
    );
    let mut sock = World::sock(Side::Server, TcpState::Established, 0, None);
    sock.cgroup = CgroupId(900);
    let (status, body, end) = (503, Body::Length(3), None);
    world.kernel(
        200,
        Observation::Answer {
            sock,
            status,
            body,
            end,
        },
    );
    assert!(world.run().0.is_empty());
}

#[test]
fn hook_that_tells_the_application_counts_from_the_deletion() {
    let mut world = World::new();
    let deletion = Some(Deletion {
        timestamp: Wall(0),
        grace_s: 30,
    });
    let containers = vec![ContainerState {
        name: "app".into(),
        pre_stop: Some("http:/stop".into()),
        ..ContainerState::default()
    }];
    world.at(
        100,
        What::Pod(PodState {
            deletion,
            containers,
            ..pod("old", "1", "10.244.1.5")
        }),
    );
    // Nothing has been seen of its container but the listener.
    world.signal(101, APP, 10);
    error(&mut world, 200);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "error-while-draining");
}

fn ends(world: &mut World, t: u64, tcp: TcpCounters, status: u16, body: Body, end: AnswerEnd) {
    world.server_end(t, TcpState::Established, TcpState::FinWait1, tcp, true);
    answer(world, t, CLIENT, status, body, Some(end));
}

fn end(sent: u32, terminated: Option<bool>) -> AnswerEnd {
    AnswerEnd {
        sent: Some(sent),
        terminated,
    }
}

#[test]
fn answer_that_promised_more_than_went_out_is_a_cut_request() {
    for (body, of) in [
        (Body::Length(10_000), end(2_000, Some(false))),
        (Body::Chunked, end(2_000, Some(false))),
    ] {
        let mut world = told();
        world.exit(117, APP);
        ends(&mut world, 118, answered(), 200, body, of);
        let verdict = world.only_verdict();
        assert_eq!(
            (verdict.cause(), verdict.outcome),
            ("immediate-exit", Outcome::ClosedEarly)
        );
        assert_eq!(verdict.ended, ms(118));
    }
}

#[test]
fn answer_that_was_whole_or_may_have_been_is_no_failure() {
    let unknown = AnswerEnd {
        sent: None,
        terminated: None,
    };
    for (body, of) in [
        (Body::Length(2_000), end(2_000, Some(false))),
        (Body::Length(2_000), unknown),
        (Body::Length(u64::from(u32::MAX)), end(2_000, Some(false))),
        (Body::Chunked, end(2_000, Some(true))),
        (Body::Chunked, end(2_000, None)),
        (Body::None, end(0, Some(false))),
        (Body::UntilClose, end(10, Some(false))),
        (Body::Unknown, unknown),
    ] {
        let mut world = told();
        world.exit(117, APP);
        ends(&mut world, 118, answered(), 200, body, of);
        assert!(world.run().0.is_empty(), "{body:?} {of:?}");
    }
}

#[test]
fn client_that_left_or_was_not_reached_cut_its_answer_itself() {
    for err in [104, 110] {
        let mut world = told();
        let sock = World::sock(Side::Server, TcpState::Close, err, Some(answered()));
        let (old, new) = (TcpState::Established, TcpState::Close);
        world.kernel(
            118,
            Observation::FlowEnd {
                sock,
                old,
                new,
                exiting: false,
                tgid: 0,
            },
        );
        let of = end(2_000, None);
        answer(&mut world, 118, CLIENT, 200, Body::Length(10_000), Some(of));
        assert!(world.run().0.is_empty(), "{err}");
    }
}

#[test]
fn request_behind_a_whole_answer_is_still_unanswered() {
    let mut world = told();
    world.exit(117, APP);
    let asked_again = TcpCounters {
        bytes_sent: 200,
        ..unanswered()
    };
    ends(&mut world, 118, asked_again, 200, Body::Length(3), end(3, None));
    assert_eq!(world.only_verdict().cause(), "immediate-exit");
}

#[test]
fn error_that_is_cut_as_well_is_one_failure() {
    let mut world = told();
    error(&mut world, 116);
    world.exit(117, APP);
    ends(
        &mut world,
        118,
        answered(),
        503,
        Body::Length(3),
        end(0, Some(false)),
    );
    assert_eq!(world.only_verdict().cause(), "error-while-draining");
}
