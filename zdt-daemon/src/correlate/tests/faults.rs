//! Much of what is ordinary one at a time: a pod that never stays up, a node that is full.

use super::world::{APP, World, ended_pod, ms, name, pod, unanswered};
use crate::{
    correlate::{Correlator, Settings},
    input::{ContainerState, EndpointState, PodState, PodUid, SlicePort, SliceState, TcpState, What},
    verdict::{Blame, Trigger},
};

#[test]
fn a_pod_that_restarts_a_hundred_times_is_an_ordinary_crash_each_time() {
    let mut world = World::new();
    for restarts in 0..100_i32 {
        let t = u64::try_from(restarts).unwrap() * 20_000;
        world.listener(t + 10, true, false);
        // The process dies with a request in its hands; then the kubelet says what it started instead.
        world.exit_with(t + 116, APP, 50, 1 << 8);
        world.server_end(
            t + 117,
            TcpState::Established,
            TcpState::FinWait1,
            unanswered(),
            true,
        );
        world.listener(t + 118, false, true);
        world.at(
            t + 1_500,
            What::Pod(PodState {
                containers: vec![ContainerState {
                    restarts: restarts + 1,
                    last_state: Some("terminated:1:Error".into()),
                    ..pod("old", "1", "10.244.1.5").containers.remove(0)
                }],
                ..pod("old", "1", "10.244.1.5")
            }),
        );
        world.at(t + 10_000, What::Tick);
    }
    let (verdicts, _) = world.run();
    assert_eq!(verdicts.len(), 100);
    for verdict in &verdicts {
        let named = (verdict.cause(), verdict.blame, verdict.trigger);
        assert_eq!(
            named,
            ("ordinary-crash", Blame::NotTheRollout, Trigger::Crash),
            "{verdict:#?}"
        );
    }
    let mut correlator = Correlator::new(Settings::default());
    for input in &world.inputs {
        correlator.step(input, &mut Vec::new());
    }
    let fill = |name: &str| correlator.tables().into_iter().find(|t| t.name == name).unwrap();
    assert_eq!((fill("pods").entries, fill("pods").evicted), (1, 0));
    assert!(fill("flows").entries <= 1, "{:?}", fill("flows"));
}

#[test]
fn five_hundred_other_pods_of_the_node_change_nothing() {
    let mut story = ended_pod();
    story.reset(140, "NO_SOCKET", true);
    let alone = story.only_verdict();

    let ip = |n: usize| format!("10.244.{}.{}", 10 + n / 250, 1 + n % 250);
    let mut crowd = Vec::new();
    for n in 0..500 {
        let mut other = pod(&format!("other-{n}"), "9", &ip(n));
        other.pod = name(&format!("other-9-{n}"));
        other.workload = None;
        crowd.push(What::Pod(other));
    }
    let endpoints = (0..500).map(|n| EndpointState {
        addrs: vec![ip(n).parse().unwrap()],
        ready: true,
        serving: true,
        pod: Some((PodUid(format!("other-{n}").into()), format!("other-9-{n}"))),
        ..EndpointState::default()
    });
    crowd.push(What::Slice(SliceState {
        slice: name("other-abcde"),
        service: "other".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..SlicePort::default()
        }],
        endpoints: endpoints.collect(),
    }));
    let start = story.inputs.remove(0);
    let crowd = crowd
        .into_iter()
        .map(|what| crate::input::Input { at: ms(0), what });
    let inputs: Vec<_> = std::iter::once(start)
        .chain(crowd)
        .chain(story.inputs.drain(..))
        .collect();
    story.inputs = inputs;
    assert_eq!(story.only_verdict(), alone);
}
