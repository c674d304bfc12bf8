//! From the first sign of a change to its last stage, for pods of this node and of others.

use super::{
    packets::{entry, syn},
    world::{POD, VIP, World, addr, ended_pod, name, pod},
};
use crate::{
    correlate::{Correlator, Settings},
    input::{
        EndpointState, Input, Observation, Packet, PodState, PodUid, Protocol, ReplicaSetState, Route,
        RouteChange, RulesState, SlicePort, SliceState, What,
    },
    verdict::{Change, Output, Propagation, RolloutSummary, Since},
};

const FAR: &str = "10.244.2.5:8080";

/// Everything said, with ticks up to the end of the story.
fn said(world: &mut World, until: u64) -> (Vec<Propagation>, Vec<RolloutSummary>) {
    for t in (0..until).step_by(250) {
        world.at(t, What::Tick);
    }
    world.inputs.sort_by_key(|i| i.at);
    heard(&world.inputs)
}

fn heard(inputs: &[Input]) -> (Vec<Propagation>, Vec<RolloutSummary>) {
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in inputs {
        correlator.step(input, &mut out);
    }
    let before_the_end = out.len();
    correlator.finish(&mut out);
    let mut propagations = Vec::new();
    let mut rollouts = Vec::new();
    for (n, output) in out.into_iter().enumerate() {
        match output {
            Output::Propagation(p) => {
                assert!(n < before_the_end, "said at the end only: {p:#?}");
                propagations.push(*p);
            }
            Output::Rollout(r) => rollouts.push(*r),
            Output::Verdict(_) | Output::SelectorSwitch(_) | Output::NotSeen(_) => {}
        }
    }
    (propagations, rollouts)
}

fn endpoint(at: &str, uid: &str, node: &str, ready: bool, terminating: bool) -> EndpointState {
    EndpointState {
        addrs: vec![addr(at).ip()],
        ready,
        serving: true,
        terminating,
        pod: Some((PodUid(uid.into()), format!("web-5895c69847-{uid}"))),
        node: Some(node.into()),
    }
}

fn slice(name_of: &str, endpoints: Vec<EndpointState>) -> What {
    What::Slice(SliceState {
        slice: name(name_of),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints,
    })
}

fn rules(to: &str, leads: bool) -> What {
    let routes = vec![Route {
        protocol: Protocol::Tcp,
        to: addr(to),
    }];
    let (added, removed) = if leads {
        (routes, Vec::new())
    } else {
        (Vec::new(), routes)
    };
    What::Rules(RulesState {
        backend: None,
        generation: None,
        by: None,
        change: RouteChange { added, removed },
        resynced: false,
        first: false,
    })
}

/// A connection of an outside client that this node sends to `to`.
fn sent(world: &mut World, t: u64, isn: u32, to: &str) {
    let packet = Packet {
        to: addr(to),
        isn: Some(isn),
        ct: Some(entry(VIP, to)),
        ..syn()
    };
    world.kernel(t, Observation::Forwarded { packet });
}

#[test]
fn stages_of_a_terminating_pod_are_said_once_when_they_are_complete() {
    let mut world = ended_pod();
    world.route(0, true);
    world.at(
        104,
        slice("web-abcde", vec![endpoint(POD, "old", "n1", false, true)]),
    );
    for (n, t) in [90, 140, 870].into_iter().enumerate() {
        sent(&mut world, t, u32::try_from(n).unwrap(), POD);
    }
    world.route(900, false);
    // An entry of conntrack took this one there.
    sent(&mut world, 2_000, 9, POD);
    let (propagations, _) = said(&mut world, 6_000);
    let [p] = propagations.as_slice() else {
        panic!("{propagations:#?}")
    };
    assert_eq!(
        (p.change, p.since, p.pod_node.as_deref()),
        (Change::Removal, Since::Deletion, None)
    );
    let stages: Vec<_> = p.stages().collect();
    // Deleted at 100, listener closed at 116.
    assert_eq!(
        stages,
        [
            ("slice", 4.0),
            ("rules", 800.0),
            ("last-connection", 770.0),
            ("stopped-serving", 16.0)
        ]
    );
}

#[test]
fn rules_that_still_lead_to_a_pod_that_is_gone_are_waited_for() {
    let mut world = ended_pod();
    world.route(0, true);
    world.at(104, slice("web-abcde", Vec::new()));
    world.at(
        1_000,
        What::PodGone {
            uid: PodUid("old".into()),
        },
    );
    world.route(40_100, false);
    let (propagations, _) = said(&mut world, 50_000);
    assert_eq!(propagations.first().and_then(|p| p.rules_ms), Some(40_000.0));
}

#[test]
fn a_pod_that_was_terminating_when_it_was_first_seen_is_no_sample() {
    let mut world = World::new();
    world.route(0, true);
    world.inputs.retain(|i| !matches!(i.what, What::Pod(_)));
    world.delete(100, 30);
    world.route(900, false);
    let (propagations, _) = said(&mut world, 20_000);
    assert!(propagations.is_empty(), "{propagations:#?}");
}

const NEW: &str = "10.244.1.6:8080";

/// A pod of this node, Ready at 3,000.
fn new_pod() -> World {
    let mut world = World::new();
    let new = |ready| {
        What::Pod(PodState {
            ready,
            ..pod("new", "2", "10.244.1.6")
        })
    };
    let endpoint = |ready| slice("web-new", vec![endpoint(NEW, "new", "n1", ready, false)]);
    world.at(2_000, new(false));
    world.at(2_005, endpoint(false));
    world.at(3_000, new(true));
    world.at(3_005, endpoint(true));
    world
}

#[test]
fn a_new_pod_is_followed_from_ready_to_its_first_connection() {
    let mut world = new_pod();
    world.at(3_400, rules(NEW, true));
    sent(&mut world, 3_410, 1, NEW);
    sent(&mut world, 3_500, 2, NEW);
    let (propagations, _) = said(&mut world, 9_000);
    let [p] = propagations.as_slice() else {
        panic!("{propagations:#?}")
    };
    assert_eq!((p.change, p.since), (Change::Addition, Since::Ready));
    let stages: Vec<_> = p.stages().collect();
    assert_eq!(
        stages,
        [
            ("slice-ready", 5.0),
            ("first-rule", 400.0),
            ("first-connection", 410.0)
        ]
    );
}

#[test]
fn a_connection_that_comes_before_its_rule_has_been_read_counts() {
    let mut world = new_pod();
    // By an entry that an earlier pod with this address has left: the rules lead there from 3,400 on.
    sent(&mut world, 3_390, 1, NEW);
    sent(&mut world, 3_401, 2, NEW);
    sent(&mut world, 3_403, 3, NEW);
    world.at(3_400, rules(NEW, true));
    sent(&mut world, 3_500, 4, NEW);
    for t in (3_750..9_000).step_by(250) {
        world.at(t, What::Tick);
    }
    let (propagations, _) = heard(&world.inputs);
    let first = propagations.first().and_then(|p| p.connection_ms);
    assert_eq!(first, Some(401.0), "{propagations:#?}");
}

/// A pod of node n2 that this node's rules lead to; terminating at 2,000, gone at 3,000, out of the rules at 2,900.
fn far_pod() -> World {
    let mut world = World::new();
    world.at(
        0,
        What::ReplicaSet(ReplicaSetState {
            replica_set: name("web-5895c69847"),
            deployment: Some("web".into()),
            kind: None,
            template_hash: Some("5895c69847".into()),
            revision: Some(1),
            ..Default::default()
        }),
    );
    world.at(1, slice("web-far", vec![endpoint(FAR, "far", "n2", true, false)]));
    world.at(2, rules(FAR, true));
    world.at(
        2_000,
        slice("web-far", vec![endpoint(FAR, "far", "n2", false, true)]),
    );
    world.at(2_900, rules(FAR, false));
    world.at(3_000, slice("web-far", Vec::new()));
    world
}

#[test]
fn this_nodes_rules_are_measured_for_pods_of_other_nodes() {
    let (propagations, rollouts) = said(&mut far_pod(), 20_000);
    let [p] = propagations.as_slice() else {
        panic!("{propagations:#?}")
    };
    assert_eq!((p.since, p.pod_node.as_deref()), (Since::Slice, Some("n2")));
    assert_eq!(p.workload.as_ref().map(|w| w.name.as_str()), Some("web"));
    assert_eq!((p.slice_ms, p.rules_ms), (Some(0.0), Some(900.0)));
    assert!(
        rollouts.is_empty(),
        "nothing of it ended or failed here: {rollouts:#?}"
    );
}

#[test]
fn what_a_pod_of_another_node_fails_here_is_summed_up_here() {
    let mut world = far_pod();
    for t in [3_100, 4_120] {
        let packet = Packet {
            to: addr(FAR),
            ct: Some(entry(VIP, FAR)),
            ..syn()
        };
        world.kernel(t, Observation::Forwarded { packet });
    }
    world.at(5_400, What::Translation(entry(VIP, FAR)));
    let (_, rollouts) = said(&mut world, 40_000);
    let [rollout] = rollouts.as_slice() else {
        panic!("{rollouts:#?}")
    };
    assert_eq!((rollout.pods, rollout.pods_elsewhere, rollout.failed), (0, 1, 1));
    assert_eq!(rollout.propagation.len(), 1);
}

#[test]
fn a_rollout_has_the_propagation_of_its_pods() {
    let mut world = ended_pod();
    world.route(0, true);
    world.at(104, slice("web-abcde", Vec::new()));
    world.route(900, false);
    world.at(
        1_000,
        What::PodGone {
            uid: PodUid("old".into()),
        },
    );
    let (_, rollouts) = said(&mut world, 20_000);
    let [rollout] = rollouts.as_slice() else {
        panic!("{rollouts:#?}")
    };
    let rules: Vec<_> = rollout.propagation.iter().map(|p| p.rules_ms).collect();
    assert_eq!(rules, [Some(800.0)]);
}
