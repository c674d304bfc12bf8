//! Tests of `questions`: which inputs ask what.

use super::*;
use crate::input::{EndpointState, Protocol, SliceState, Start, Translation, Tuple, Wall};

struct World {
    questions: Questions,
    asked: mpsc::Receiver<Question>,
    lost: Arc<Lost>,
}

impl World {
    fn new(room: usize) -> Self {
        let (to, asked) = mpsc::channel(room);
        let lost = Arc::new(Lost::default());
        let questions = Questions::new(to, Arc::clone(&lost));
        let mut world = Self {
            questions,
            asked,
            lost,
        };
        world.at(
            0,
            What::Start(Start {
                node: "n1".into(),
                wall: Wall(0),
                kernel: String::new(),
                node_addrs: vec!["192.0.2.10".parse().unwrap()],
                netns: crate::input::NetnsInum(1),
                hooks: Vec::new(),
                missing: Vec::new(),
                hz: 250,
            }),
        );
        world
    }

    fn at(&mut self, ms: u64, what: What) -> Vec<Question> {
        let at = Ktime(ms * 1_000_000);
        self.questions.follow(&Input { at, what });
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

fn forwarded(client: &str, entry: bool) -> What {
    let orig = Tuple {
        from: client.parse().unwrap(),
        to: "192.0.2.10:30080".parse().unwrap(),
    };
    let packet = Packet {
        protocol: Protocol::Tcp,
        from: orig.from,
        to: "10.244.2.9:8080".parse().unwrap(),
        isn: Some(7),
        ct: entry.then_some(Translation {
            protocol: Protocol::Tcp,
            orig,
            reply: None,
            replied: false,
        }),
    };
    What::Kernel(Observation::Forwarded { packet })
}

fn slice(terminating: bool) -> What {
    What::Slice(SliceState {
        endpoints: vec![EndpointState {
            addrs: vec!["10.244.2.9".parse().unwrap()],
            terminating,
            ..EndpointState::default()
        }],
        ..SliceState::default()
    })
}

#[test]
fn a_client_without_a_socket_here_is_asked_for_and_one_with_is_not() {
    let mut world = World::new(8);
    let asked = world.at(5, forwarded("198.51.100.1:4000", true));
    let [Question::Opening { at, opening }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!((at.0, opening.orig.from.port()), (5_000_000, 4000));
    assert_eq!(
        world.at(6, forwarded("192.0.2.10:4000", true)),
        [],
        "the node itself"
    );
    assert_eq!(
        world.at(7, forwarded("198.51.100.1:4000", false)),
        [],
        "no entry to ask for"
    );
}

#[test]
fn counters_are_told_each_second_while_something_is_in_transition() {
    let mut world = World::new(8);
    world.at(1, slice(false));
    assert_eq!(world.at(2, What::Tick), [Question::Counters { told: false }]);
    assert_eq!(world.at(252, What::Tick), []);
    let pod = "10.244.2.9".parse().unwrap();
    assert_eq!(world.at(300, slice(true)), [Question::Pinned(pod)]);
    assert_eq!(world.at(752, What::Tick), []);
    assert_eq!(world.at(1_002, What::Tick), [Question::Counters { told: true }]);
    assert_eq!(world.at(1_252, What::Tick), []);
    assert_eq!(world.at(2_002, What::Tick), [Question::Counters { told: true }]);
}

#[test]
fn counters_are_told_for_ten_seconds_after_a_failure_and_only_remembered_else() {
    let mut world = World::new(8);
    let dropped = |port: u16| {
        let What::Kernel(Observation::Forwarded { packet }) = forwarded("192.0.2.10:1", false) else {
            unreachable!()
        };
        let reason = Some(format!("{port}"));
        What::Kernel(Observation::Dropped { packet, reason })
    };
    world.at(0, What::Tick);
    assert_eq!(world.at(9_000, What::Tick), []);
    assert_eq!(world.at(10_000, What::Tick), [Question::Counters { told: false }]);
    world.at(11_100, dropped(1));
    for ms in [11_250, 12_250, 20_250] {
        assert_eq!(world.at(ms, What::Tick), [Question::Counters { told: true }]);
    }
    assert_eq!(world.at(21_250, What::Tick), []);
}

#[test]
fn questions_that_find_no_room_are_counted_by_what_they_ask() {
    let mut world = World::new(1);
    let at = |ms: u64, what: What| Input {
        at: Ktime(ms * 1_000_000),
        what,
    };
    for port in 1..=3 {
        world
            .questions
            .follow(&at(1, forwarded(&format!("198.51.100.1:{port}"), true)));
    }
    world.questions.follow(&at(2, slice(true)));
    world.questions.follow(&at(3, What::Tick));
    assert_eq!(world.lost.lookup.load(Relaxed), 2);
    assert_eq!(world.lost.dump.load(Relaxed), 1);
    assert_eq!(world.lost.counters.load(Relaxed), 1);
}
