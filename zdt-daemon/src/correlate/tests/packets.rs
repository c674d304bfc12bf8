//! Clients without a socket on this node: what packets and conntrack alone tell.

use super::world::{POD, VIP, World, addr, ended_pod, ms, name};
use crate::{
    input::{EndpointState, Observation, Packet, PodUid, Protocol, Side, SlicePort, SliceState, TcpState},
    input::{Translation, Tuple, What},
    verdict::{Outcome, Verdict},
};

pub(super) const OUTSIDE: &str = "192.168.7.9:50000";
pub(super) const NODE_PORT: &str = "10.244.1.1:30080";
const MASKED: &str = "10.244.1.1:61000";
const ISN: u32 = 77;

pub(super) fn entry(dialled: &str, reply_from: &str) -> Translation {
    Translation {
        protocol: Protocol::Tcp,
        orig: Tuple {
            from: addr(OUTSIDE),
            to: addr(dialled),
        },
        reply: Some(Tuple {
            from: addr(reply_from),
            to: addr(MASKED),
        }),
        replied: false,
    }
}

/// A SYN of the outside client, translated and masqueraded by this node.
pub(super) fn syn() -> Packet {
    Packet {
        protocol: Protocol::Tcp,
        from: addr(MASKED),
        to: addr(POD),
        isn: Some(ISN),
        ct: Some(entry(NODE_PORT, POD)),
    }
}

/// A SYN to the node port that no rule translated.
pub(super) fn turned_away() -> Packet {
    Packet {
        from: addr(OUTSIDE),
        to: addr(NODE_PORT),
        ct: None,
        ..syn()
    }
}

pub(super) fn dropped(packet: Packet, reason: &str) -> Observation {
    Observation::Dropped {
        packet,
        reason: Some(reason.to_owned()),
    }
}

impl World {
    /// A bridge makes two of one.
    fn forwarded(&mut self, t: u64, packet: &Packet) {
        for ns in [0, 20_000] {
            self.kernel(
                t,
                Observation::Forwarded {
                    packet: packet.clone(),
                },
            );
            self.inputs.last_mut().unwrap().at.0 += ns;
        }
    }

    pub(super) fn looked(&mut self, t: u64, said: Translation) {
        self.at(t, What::Translation(said));
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let mut world = World {
            inputs: self.inputs.clone(),
        };
        for t in 0..80 {
            world.at(10_000 + t * 250, What::Tick);
        }
        world.run().0
    }

    pub(super) fn one(&self) -> Verdict {
        let mut verdicts = self.verdicts();
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        verdicts.remove(0)
    }

    /// The RST that the pod's kernel sends to the masqueraded client.
    fn reset_to_masked(&mut self, t: u64) {
        let mut sock = Self::sock(Side::Server, TcpState::Close, 0, None);
        sock.remote = addr(MASKED);
        let reset = Observation::ResetSent {
            sock,
            reason: Some("NO_SOCKET".into()),
            to_syn: true,
            has_socket: false,
            isn: Some(ISN),
        };
        self.kernel(t, reset);
    }
}

#[test]
fn an_outside_client_that_nobody_answers_is_one_failure_with_its_own_address() {
    let mut world = ended_pod();
    for t in [300, 1_320, 2_340] {
        world.forwarded(t, &syn());
    }
    world.looked(1_500, entry(NODE_PORT, POD));
    world.looked(3_540, entry(NODE_PORT, POD));
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("pod-ip-gone", Outcome::TimedOut)
    );
    assert_eq!(
        (verdict.client, verdict.dialled),
        (addr(OUTSIDE), Some(addr(NODE_PORT)))
    );
    assert_eq!(
        (verdict.server, verdict.service.clone()),
        (Some(addr(POD)), Some(name("web")))
    );
    assert_eq!((verdict.began, verdict.ended), (ms(300), ms(2_340 + 3_200)));
    let end = format!("{:?}", verdict.judgement);
    assert!(end.contains("timed-out after 2 SYN retransmits"), "{end}");
}

#[test]
fn a_client_that_gives_up_before_it_sends_again_has_failed_as_well() {
    let mut world = ended_pod();
    world.forwarded(300, &syn());
    world.looked(1_500, entry(NODE_PORT, POD));
    assert_eq!(world.one().outcome, Outcome::TimedOut);
}

#[test]
fn silence_without_a_proof_is_no_failure() {
    let mut world = ended_pod();
    world.forwarded(300, &syn());
    assert!(world.verdicts().is_empty());
}

#[test]
fn an_answered_connection_leaves_nothing() {
    let mut world = ended_pod();
    world.forwarded(300, &syn());
    let answered = Translation {
        replied: true,
        ..entry(NODE_PORT, POD)
    };
    world.looked(1_500, answered);
    assert!(world.verdicts().is_empty());
}

#[test]
fn a_connection_that_its_second_syn_opened_is_no_failure() {
    let mut world = ended_pod();
    world.forwarded(300, &syn());
    world.looked(1_310, entry(NODE_PORT, POD));
    world.forwarded(1_320, &syn());
    let answered = Translation {
        replied: true,
        ..entry(NODE_PORT, POD)
    };
    world.looked(2_520, answered);
    assert!(world.verdicts().is_empty());
}

#[test]
fn a_reset_of_a_pod_of_this_node_is_counted_once_with_the_outside_clients_address() {
    let mut world = ended_pod();
    world.forwarded(140, &syn());
    world.reset_to_masked(141);
    let gone = Translation {
        reply: None,
        ..entry(NODE_PORT, POD)
    };
    world.looked(1_340, gone);
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("endpoint-removal-race", Outcome::Refused)
    );
    assert_eq!(
        (verdict.client, verdict.dialled),
        (addr(OUTSIDE), Some(addr(NODE_PORT)))
    );
    assert_eq!(verdict.service, Some(name("web")));
    assert!(verdict.id.starts_with(MASKED), "{}", verdict.id);
}

#[test]
fn a_reset_of_a_pod_of_another_node_is_that_nodes_to_count() {
    let mut world = ended_pod();
    let there = "10.244.2.5:8080";
    let packet = Packet {
        to: addr(there),
        ct: Some(entry(NODE_PORT, there)),
        ..syn()
    };
    world.forwarded(300, &packet);
    let gone = Translation {
        reply: None,
        ..entry(NODE_PORT, there)
    };
    world.looked(1_500, gone);
    assert!(world.verdicts().is_empty());
}

#[test]
fn silence_of_a_pod_of_another_node_is_counted_where_it_was_translated() {
    let mut world = ended_pod();
    let there = "10.244.2.5:8080";
    let slice = |endpoints| SliceState {
        slice: name("web-other"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints,
    };
    let endpoint = EndpointState {
        addrs: vec![addr(there).ip()],
        terminating: true,
        pod: Some((PodUid("far".into()), "web-1-far".into())),
        node: Some("n2".into()),
        ..Default::default()
    };
    world.at(170, What::Slice(slice(vec![endpoint])));
    world.at(250, What::Slice(slice(Vec::new())));
    let packet = |ct| Packet {
        to: addr(there),
        ct,
        ..syn()
    };
    // Translated here; and translated by another node, whose it is.
    world.forwarded(300, &packet(Some(entry(NODE_PORT, there))));
    world.looked(1_500, entry(NODE_PORT, there));
    let mut passing = packet(Some(entry(there, there)));
    passing.isn = Some(78);
    world.forwarded(310, &passing);
    world.looked(1_510, entry(there, there));
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.dialled),
        ("pod-ip-gone", Some(addr(NODE_PORT)))
    );
    assert_eq!(verdict.pod.map(|p| p.uid.to_string()), Some("far".into()));
}

#[test]
fn a_reset_that_an_outside_client_never_got_is_no_answer() {
    let mut world = ended_pod();
    world.forwarded(167, &syn());
    world.reset_to_masked(168);
    world.forwarded(1_190, &syn());
    world.looked(2_400, entry(NODE_PORT, POD));
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("pod-ip-gone", Outcome::TimedOut)
    );
    let told = format!("{:?}", verdict.judgement);
    assert!(told.contains("RST to the SYN, lost"), "{told}");
}

#[test]
fn a_client_with_a_socket_here_is_counted_by_its_socket() {
    let mut world = ended_pod();
    let ours = Packet {
        from: addr(super::world::CLIENT),
        ct: Some(Translation {
            orig: Tuple {
                from: addr(super::world::CLIENT),
                to: addr(VIP),
            },
            ..entry(VIP, POD)
        }),
        ..syn()
    };
    world.forwarded(300, &ours);
    world.syn_retransmit(300, 1_320);
    world.forwarded(1_320, &ours);
    world.translated(1_321, false);
    world.connect_failed(300, 3_300, 0);
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.client),
        ("pod-ip-gone", addr(super::world::CLIENT))
    );
}

fn datagram(to: &str) -> Packet {
    Packet {
        protocol: Protocol::Udp,
        to: addr(to),
        isn: None,
        ct: Some(Translation {
            protocol: Protocol::Udp,
            ..entry(VIP, to)
        }),
        ..syn()
    }
}

#[test]
fn each_datagram_to_an_ended_pod_is_a_request_that_failed() {
    let mut world = ended_pod();
    world.forwarded(300, &datagram(POD));
    world.forwarded(350, &datagram(POD));
    let verdicts = world.verdicts();
    let outcomes: Vec<_> = verdicts.iter().map(|v| (v.began, v.outcome)).collect();
    assert_eq!(
        outcomes,
        [(ms(300), Outcome::TimedOut), (ms(350), Outcome::TimedOut)]
    );
}

#[test]
fn a_datagram_to_a_living_pod_is_no_failure() {
    let mut world = World::new();
    world.forwarded(300, &datagram(POD));
    assert!(world.verdicts().is_empty());
}
