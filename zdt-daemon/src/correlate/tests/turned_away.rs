//! Packets that this node dropped, with and without an answer, and what the table of attempts costs.

use super::{
    packets::{NODE_PORT, OUTSIDE, dropped, entry, syn, turned_away},
    world::{POD, World, addr, ended_pod, ms, name},
};
use crate::{
    input::{Observation, Packet, Protocol, Translation, Tuple, What},
    verdict::Outcome,
};

#[test]
fn a_connection_that_a_rule_rejected_is_refused_at_once() {
    let mut world = World::new();
    let packet = turned_away();
    let icmp = Observation::IcmpSent {
        packet: packet.clone(),
        kind: 3,
        code: 3,
    };
    world.kernel(300, icmp);
    world.kernel(300, dropped(packet, "NETFILTER_DROP"));
    let verdict = world.one();
    assert_eq!((verdict.outcome, verdict.ended), (Outcome::Refused, ms(300)));
    assert_eq!(
        (verdict.client, verdict.service),
        (addr(OUTSIDE), Some(name("web")))
    );
}

#[test]
fn a_connection_that_is_dropped_again_and_again_has_timed_out_once() {
    let mut world = World::new();
    for t in [300, 1_320, 2_340] {
        world.kernel(t, dropped(turned_away(), "NETFILTER_DROP"));
    }
    assert_eq!(world.one().outcome, Outcome::TimedOut);
}

#[test]
fn a_dropped_syn_whose_retransmit_was_answered_is_no_failure() {
    let mut world = World::new();
    world.kernel(300, dropped(turned_away(), "NETFILTER_DROP"));
    let answered = Translation {
        replied: true,
        ..entry(NODE_PORT, POD)
    };
    world.looked(1_500, answered);
    assert!(world.verdicts().is_empty());
}

#[test]
fn a_client_of_ipv6_that_stops_at_the_first_drop_was_refused() {
    let v6 = |text: &str| addr(text);
    let packet = Packet {
        from: v6("[fd00::9]:50000"),
        to: v6("[fd00::80]:80"),
        ..turned_away()
    };
    let gone = Translation {
        protocol: Protocol::Tcp,
        orig: Tuple {
            from: packet.from,
            to: packet.to,
        },
        reply: None,
        replied: false,
    };
    let service = |world: &mut World| {
        for input in &mut world.inputs {
            if let What::Service(service) = &mut input.what {
                service.vips.push(v6("[fd00::80]:80").ip());
            }
        }
    };
    let mut world = World::new();
    service(&mut world);
    world.kernel(300, dropped(packet.clone(), "NETFILTER_DROP"));
    world.looked(1_500, gone.clone());
    assert_eq!(world.one().outcome, Outcome::Refused);
    // Who sends again has got nothing.
    world.kernel(1_520, dropped(packet, "NETFILTER_DROP"));
    world.looked(2_720, gone);
    assert_eq!(world.one().outcome, Outcome::TimedOut);
}

#[test]
fn a_drop_that_comes_seconds_late_says_neither_rules_nor_entry() {
    let mut world = ended_pod();
    world.route(0, true);
    world.route(1_000, false);
    // Dropped at 3,900, so sent at 900 to 3,900: the rules let go in between.
    world.kernel(3_900, dropped(syn(), "NEIGH_FAILED"));
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("unexplained", Outcome::TimedOut)
    );
}

#[test]
fn one_client_that_opens_connections_without_end_takes_the_room_of_a_few() {
    let mut world = World::new();
    for n in 0..1_000 {
        let packet = Packet {
            isn: Some(n),
            ..turned_away()
        };
        world.kernel(300, dropped(packet, "NETFILTER_DROP"));
    }
    assert!(world.verdicts().len() <= 16);
}

#[test]
fn attempts_are_bounded_and_what_the_bound_costs_is_a_loss() {
    let mut world = World::new();
    for n in 0..66_000_u32 {
        let packet = Packet {
            from: std::net::SocketAddr::from((n.to_be_bytes(), 50_000)),
            ..turned_away()
        };
        let at = ms(300);
        let what = What::Kernel(dropped(packet, "NETFILTER_DROP"));
        world.inputs.push(crate::input::Input { at, what });
    }
    world.at(301, What::Tick);
    let mut correlator = crate::correlate::Correlator::new(crate::correlate::Settings::default());
    for input in &world.inputs {
        correlator.step(input, &mut Vec::new());
    }
    assert_eq!(correlator.losses.within(ms(0), ms(400)), 66_000 - 65_536);
}
