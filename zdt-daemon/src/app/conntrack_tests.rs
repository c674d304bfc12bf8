//! Tests of `conntrack` with a real table, each in a network namespace of its own. They need root and fail without.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::*;
use crate::{
    app::later::{self, AFTER_MS},
    input::{Packet, Protocol, Translation, Tuple},
    netfilter::namespace,
};

/// A service whose one pod never answers.
const SETUP: &[&str] = &[
    "ip link set lo up",
    "ip addr add 10.0.0.5/32 dev lo",
    "ip route add 10.96.0.0/16 dev lo",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080",
    "iptables -A INPUT -p tcp --dport 8080 -j DROP",
];
const POD: &str = "10.0.0.5:8080";

const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    ask: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Input>,
    lost: Arc<Lost>,
}

impl World {
    async fn answer(&mut self) -> Input {
        let answer = timeout(PATIENCE, self.answers.recv()).await;
        answer.expect("no answer came in time").expect("the task goes on")
    }
}

/// Runs `test` beside a task that asks the table of the test's namespace; the task must end when it is told to stop.
fn beside<F: Future<Output = World>>(test: impl FnOnce(World) -> F + Send + 'static) {
    namespace::prepared(SETUP, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let lost = Arc::new(Lost::default());
            let (to, answers) = mpsc::channel(64);
            let (ask, questions) = mpsc::channel(64);
            let (running, stop) = watch::channel(());
            let conntrack = Conntrack::open(to, Arc::clone(&lost));
            let world = World { ask, answers, lost };
            let task = conntrack.run(questions, stop);
            let tested = async {
                let world = test(world).await;
                drop(running);
                world
            };
            let ((), mut world) = timeout(PATIENCE * 3, async { tokio::join!(task, tested) })
                .await
                .unwrap();
            assert!(world.answers.recv().await.is_none(), "nothing is left unsaid");
        });
    });
}

/// A connection that waits for the pod, and the question about it.
fn connecting(at: crate::input::Ktime) -> (socket2::Socket, Tuple, Question) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let to: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let _ = socket.connect(&to.into());
    let from = socket.local_addr().unwrap().as_socket().unwrap();
    let orig = Tuple { from, to };
    let packet = Packet {
        protocol: Protocol::Tcp,
        from,
        to: POD.parse().unwrap(),
        isn: Some(1),
        ct: Some(Translation {
            protocol: Protocol::Tcp,
            orig,
            reply: None,
            replied: false,
        }),
    };
    let opening = later::opening(&packet).unwrap();
    (socket, orig, Question::Opening { at, opening })
}

#[test]
fn a_syn_is_asked_for_when_the_next_one_is_under_way_and_not_before() {
    beside(|mut world| async {
        let asked = clock::now();
        let (_socket, orig, question) = connecting(asked);
        world.ask.send(question).await.unwrap();
        world.ask.send(question).await.unwrap();
        let answer = world.answer().await;
        assert!(
            answer.at >= asked.plus_ms(AFTER_MS),
            "{} ms",
            answer.at.ms_since(asked)
        );
        let What::Translation(translation) = answer.what else {
            panic!("{answer:?}")
        };
        assert_eq!(translation.orig, orig);
        assert_eq!(translation.reply.map(|r| r.from), Some(POD.parse().unwrap()));
        assert!(!translation.replied);
        assert_eq!(world.lost.lookup.load(Relaxed), 0);
        world
    });
}

#[test]
fn what_leads_to_a_pod_is_counted_at_once() {
    beside(|mut world| async {
        let _waiting = [connecting(clock::now()), connecting(clock::now())];
        let server = "10.0.0.5".parse().unwrap();
        world.ask.send(Question::Pinned(server)).await.unwrap();
        let answer = world.answer().await;
        let What::Pinned(pinned) = answer.what else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (pinned.server, pinned.unanswered, pinned.established),
            (server, 2, 0)
        );
        world
    });
}

#[test]
fn counters_are_told_only_when_they_matter() {
    beside(|mut world| async {
        let _waiting = [
            connecting(clock::now()),
            connecting(clock::now()),
            connecting(clock::now()),
        ];
        world.ask.send(Question::Counters { told: false }).await.unwrap();
        world.ask.send(Question::Counters { told: true }).await.unwrap();
        let answer = world.answer().await;
        let What::Conntrack(state) = answer.what else {
            panic!("{answer:?}")
        };
        assert_eq!((state.entries, state.drop), (3, 0));
        assert_eq!(world.lost.counters.load(Relaxed), 0);
        world
    });
}
