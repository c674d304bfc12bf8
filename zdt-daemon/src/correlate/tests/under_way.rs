//! What is told of a rollout before it is over.

use super::world::{World, name, pod};
use crate::{
    correlate::{Correlator, Settings},
    input::{Input, ReplicaSetState, What},
    verdict::{Output, UnderWay},
};

fn replica_set(hash: &str, revision: u64, replicas: i32) -> What {
    What::ReplicaSet(ReplicaSetState {
        replica_set: name(&format!("web-{hash}")),
        deployment: Some("web".into()),
        template_hash: Some(hash.into()),
        revision: Some(revision),
        replicas,
        ..ReplicaSetState::default()
    })
}

/// What is under way after the inputs, and the summaries by then.
fn after(world: &mut World) -> (Vec<UnderWay>, usize) {
    world.inputs.sort_by_key(|i: &Input| i.at);
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in &world.inputs {
        correlator.step(input, &mut out);
    }
    let summaries = out.iter().filter(|o| matches!(o, Output::Rollout(_)));
    (correlator.under_way(), summaries.count())
}

fn rolling() -> World {
    let mut world = World::new();
    world.at(5, replica_set("1", 1, 1));
    world.at(40, replica_set("2", 2, 1));
    world.at(60, What::Pod(pod("new", "2", "10.244.1.9")));
    world.at(90, replica_set("1", 1, 0));
    world.delete(100, 30);
    world
}

#[test]
fn nothing_is_under_way_before_something_changes() {
    let mut world = World::new();
    world.at(50, What::Tick);
    assert!(after(&mut world).0.is_empty());
}

#[test]
fn pods_and_failures_so_far_are_told_until_the_summary() {
    let mut world = rolling();
    world.signal(115, super::world::APP, 15);
    world.listener(116, false, false);
    world.reset(140, "NO_SOCKET", true);
    world.at(5_000, What::Tick);
    let (under_way, summaries) = after(&mut world);
    let [on] = under_way.try_into().unwrap();
    assert_eq!((summaries, on.summed_up), (0, false));
    assert_eq!(on.workload.name, "web");
    assert_eq!(
        (on.here.ended, on.here.gone, on.here.old, on.here.new),
        (1, 0, 0, 1)
    );
    assert_eq!((on.old_wanted, on.new_wanted), (Some(0), Some(1)));
    assert_eq!(
        (on.failed, on.causes),
        (1, vec![("endpoint-removal-race".to_owned(), 1)])
    );
    assert_eq!(on.to.and_then(|r| r.number), Some(2));

    let uid = crate::input::PodUid("old".into());
    world.at(6_000, What::PodGone { uid });
    world.at(20_000, What::Tick);
    let (under_way, summaries) = after(&mut world);
    assert_eq!((under_way.len(), summaries), (0, 1));
}

#[test]
fn summed_up_here_it_goes_on_while_older_replicas_are_wanted_elsewhere() {
    let mut world = rolling();
    world.at(95, replica_set("1", 1, 3));
    let uid = crate::input::PodUid("old".into());
    world.at(6_000, What::PodGone { uid });
    world.at(20_000, What::Tick);
    let (under_way, summaries) = after(&mut world);
    assert_eq!(summaries, 1);
    let [on] = under_way.try_into().unwrap();
    assert!(on.summed_up);
    assert_eq!(on.old_wanted, Some(3));
    world.at(21_000, replica_set("1", 1, 0));
    world.at(21_001, What::Tick);
    assert!(after(&mut world).0.is_empty());
}
