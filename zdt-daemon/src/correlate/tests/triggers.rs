//! Who ended a pod, from what the API says of it and of its ReplicaSets.

use super::world::{POD, VIP, World, addr, ms, name, pod};
use crate::{
    input::{
        Deletion, EndpointState, Input, PodState, PodUid, ReplicaSetState, ServicePort, ServiceState,
        SlicePort, SliceState, Wall, What,
    },
    verdict::Trigger,
};

fn replica_set(hash: &str, revision: u64, replicas: i32, desired: i32) -> What {
    What::ReplicaSet(ReplicaSetState {
        replica_set: name(&format!("web-{hash}")),
        deployment: Some("web".into()),
        kind: None,
        template_hash: Some(hash.into()),
        revision: Some(revision),
        replicas,
        desired: Some(desired),
        ..ReplicaSetState::default()
    })
}

/// One whose Deployment has this uid, or none that is known.
fn owned(by: Option<&str>, hash: &str, revision: u64, replicas: i32, ending: bool) -> What {
    let What::ReplicaSet(set) = replica_set(hash, revision, replicas, 3) else {
        unreachable!()
    };
    What::ReplicaSet(ReplicaSetState {
        owner_uid: by.map(str::to_owned),
        ending,
        ..set
    })
}

fn gone(hash: &str) -> What {
    What::ReplicaSetGone {
        replica_set: name(&format!("web-{hash}")),
    }
}

/// The trigger of a request that the pod of the story broke, with these inputs around its deletion at 100 ms.
fn trigger(before: Vec<(u64, What)>, deleted: PodState) -> Trigger {
    let mut world = World::new();
    world.at(10, What::Tick);
    for (t, what) in before {
        world.at(t, what);
    }
    world.at(100, What::Pod(deleted));
    world.signal(115, super::world::APP, 15);
    world.listener(116, false, false);
    world.reset(140, "NO_SOCKET", true);
    world.inputs.sort_by_key(|i: &Input| i.at);
    assert_eq!(world.inputs.first().map(|i| i.at), Some(ms(0)));
    world.only_verdict().trigger
}

fn deleted(change: impl FnOnce(&mut PodState)) -> PodState {
    let mut state = PodState {
        deletion: Some(Deletion {
            timestamp: Wall(0),
            grace_s: 30,
        }),
        ..pod("old", "1", "10.244.1.5")
    };
    change(&mut state);
    state
}

#[test]
fn a_newer_replica_set_that_was_there_first_is_a_rolling_update_even_when_its_pods_are_elsewhere() {
    let sets = vec![
        (5, replica_set("1", 1, 3, 3)),
        (50, replica_set("2", 2, 1, 3)),
        (90, replica_set("1", 1, 2, 3)),
    ];
    assert_eq!(trigger(sets, deleted(|_| {})), Trigger::RollingUpdate);
}

#[test]
fn a_replica_set_that_shrinks_below_what_its_deployment_wants_without_a_newer_one_is_recreate() {
    let sets = vec![(5, replica_set("1", 1, 3, 3)), (90, replica_set("1", 1, 0, 3))];
    assert_eq!(trigger(sets.clone(), deleted(|_| {})), Trigger::Recreate);
    let mut later = sets;
    later.push((600, replica_set("2", 2, 3, 3)));
    assert_eq!(trigger(later, deleted(|_| {})), Trigger::Recreate);
}

#[test]
fn fewer_replicas_wanted_is_a_scale_down_and_as_many_is_a_delete() {
    let scaled = vec![(5, replica_set("1", 1, 3, 3)), (90, replica_set("1", 1, 1, 1))];
    assert_eq!(trigger(scaled, deleted(|_| {})), Trigger::ScaleDown);
    let same = vec![(5, replica_set("1", 1, 3, 3))];
    assert_eq!(trigger(same, deleted(|_| {})), Trigger::Delete);
}

#[test]
fn a_deployment_that_is_deleted_and_created_again_is_no_rolling_update() {
    let new_pod = || {
        What::Pod(PodState {
            template_hash: Some("2".into()),
            created: Some(Wall(i64::MAX)),
            ..pod("new", "2", "10.244.1.6")
        })
    };
    let first = |by| (5, owned(by, "1", 3, 3, false));
    // Another template, which begins with revision 1 again.
    let other = vec![
        first(Some("d-1")),
        (80, gone("1")),
        (90, owned(Some("d-2"), "2", 1, 3, false)),
        (95, new_pod()),
    ];
    assert_eq!(trigger(other, deleted(|_| {})), Trigger::DeleteAndCreate);
    // The same template: the ReplicaSet has its old name.
    let same = vec![
        first(Some("d-1")),
        (80, gone("1")),
        (600, owned(Some("d-2"), "1", 1, 3, false)),
    ];
    assert_eq!(trigger(same, deleted(|_| {})), Trigger::DeleteAndCreate);
    // --cascade=foreground: owners go last.
    let last = vec![
        first(Some("d-1")),
        (90, owned(Some("d-1"), "1", 3, 3, true)),
        (400, gone("1")),
        (500, owned(Some("d-2"), "2", 1, 3, false)),
        (510, new_pod()),
    ];
    assert_eq!(trigger(last, deleted(|_| {})), Trigger::DeleteAndCreate);
}

#[test]
fn a_deployment_or_its_replica_set_that_is_only_deleted_is_a_delete() {
    let first = |by| (5, owned(by, "1", 1, 3, false));
    let deployment = vec![first(Some("d-1")), (80, gone("1"))];
    assert_eq!(trigger(deployment, deleted(|_| {})), Trigger::Delete);
    let foreground = vec![first(Some("d-1")), (90, owned(Some("d-1"), "1", 1, 3, true))];
    assert_eq!(trigger(foreground, deleted(|_| {})), Trigger::Delete);
    // Its Deployment lives, and makes it again.
    let by_hand = vec![
        first(Some("d-1")),
        (80, gone("1")),
        (120, owned(Some("d-1"), "1", 1, 3, false)),
    ];
    assert_eq!(trigger(by_hand, deleted(|_| {})), Trigger::Delete);
    // Whose it is was not recorded.
    let unknown = vec![first(None), (80, gone("1")), (120, owned(None, "2", 1, 3, false))];
    assert_eq!(trigger(unknown, deleted(|_| {})), Trigger::Delete);
}

#[test]
fn a_rolling_update_after_a_deployment_was_created_again_is_one() {
    // What is left of the past without replicas is cleaned up by the Deployment itself.
    let cleaned_up = vec![
        (3, owned(Some("d-1"), "0", 1, 0, false)),
        (5, owned(Some("d-1"), "1", 2, 3, false)),
        (50, owned(Some("d-1"), "2", 3, 1, false)),
        (80, gone("0")),
        (90, owned(Some("d-1"), "1", 2, 2, false)),
    ];
    assert_eq!(trigger(cleaned_up, deleted(|_| {})), Trigger::RollingUpdate);
    let later = vec![
        (5, owned(Some("d-1"), "1", 3, 3, false)),
        (20, gone("1")),
        (30, owned(Some("d-2"), "1", 1, 3, false)),
        (50, owned(Some("d-2"), "2", 2, 1, false)),
        (90, owned(Some("d-2"), "1", 1, 2, false)),
    ];
    assert_eq!(trigger(later, deleted(|_| {})), Trigger::RollingUpdate);
}

#[test]
fn a_pods_own_status_says_who_disrupted_it() {
    for (disruption, reason, expected) in [
        (Some("EvictionByEvictionAPI"), None, Trigger::Eviction),
        (Some("PreemptionByScheduler"), None, Trigger::Preemption),
        (Some("DeletionByTaintManager"), None, Trigger::Eviction),
        (
            Some("TerminationByKubelet"),
            Some("Terminated"),
            Trigger::NodeShutdown,
        ),
        (Some("TerminationByKubelet"), Some("Evicted"), Trigger::Eviction),
    ] {
        let state = deleted(|s| {
            s.disruption = disruption.map(|d| format!("DisruptionTarget:{d}"));
            s.reason = reason.map(str::to_owned);
        });
        assert_eq!(trigger(Vec::new(), state), expected, "{disruption:?}");
    }
}

#[test]
fn an_object_that_vanishes_untold_was_deleted_by_force() {
    let mut world = World::new();
    world.at(
        100,
        What::PodGone {
            uid: PodUid("old".into()),
        },
    );
    world.signal(115, super::world::APP, 15);
    world.listener(116, false, false);
    world.reset(140, "NO_SOCKET", true);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.trigger),
        ("endpoint-removal-race", Trigger::ForceDelete)
    );
}

#[test]
fn several_pods_of_one_node_that_the_eviction_api_takes_are_a_drain() {
    let evicted = |uid: &str, ip: &str| PodState {
        deletion: Some(Deletion {
            timestamp: Wall(0),
            grace_s: 30,
        }),
        disruption: Some("DisruptionTarget:EvictionByEvictionAPI".into()),
        ..pod(uid, "1", ip)
    };
    let other = vec![(105, What::Pod(evicted("other", "10.244.1.8")))];
    assert_eq!(trigger(other, evicted("old", "10.244.1.5")), Trigger::Drain);
}

#[test]
fn a_living_pod_that_a_service_came_to_select_is_a_selector_switch() {
    let mut world = World::new();
    let service = |color: &str| {
        What::Service(ServiceState {
            service: name("web"),
            vips: vec![addr(VIP).ip()],
            ports: vec![ServicePort {
                port: 80,
                protocol: "TCP".into(),
                ..Default::default()
            }],
            selector: [("app".to_owned(), color.to_owned())].into(),
            ..Default::default()
        })
    };
    world
        .inputs
        .retain(|i| !matches!(i.what, What::Slice(_) | What::Kernel(_)));
    world.at(0, service("blue"));
    world.at(100, service("green"));
    let slice = SliceState {
        slice: name("web-abcde"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints: vec![EndpointState {
            addrs: vec![addr(POD).ip()],
            ready: true,
            serving: true,
            pod: Some((PodUid("old".into()), "web-1-old".into())),
            ..Default::default()
        }],
    };
    world.at(110, What::Slice(slice));
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(world.only_verdict().trigger, Trigger::SelectorSwitch);
}

/// Nobody deletes a pod that its kubelet evicts.
fn evicted(told: impl FnOnce(&mut World)) -> crate::verdict::Verdict {
    let mut world = World::new();
    world.signal(115, super::world::APP, 15);
    world.listener(116, false, false);
    world.reset(140, "NO_SOCKET", true);
    world.exit(200, super::world::APP);
    told(&mut world);
    world.inputs.sort_by_key(|i: &Input| i.at);
    world.only_verdict()
}

fn status(disruption: Option<&str>, reason: Option<&str>, phase: &str) -> What {
    What::Pod(PodState {
        disruption: disruption.map(str::to_owned),
        reason: reason.map(str::to_owned),
        phase: phase.to_owned(),
        ..pod("old", "1", "10.244.1.5")
    })
}

#[test]
fn a_pod_that_its_kubelet_evicts_was_told_to_go_though_nobody_deleted_it() {
    let verdict = evicted(|world| {
        world.at(
            110,
            status(Some("DisruptionTarget:TerminationByKubelet"), None, "Running"),
        );
        world.at(
            1_300,
            status(
                Some("DisruptionTarget:TerminationByKubelet"),
                Some("Evicted"),
                "Failed",
            ),
        );
    });
    assert_eq!(
        (verdict.cause(), verdict.trigger),
        ("endpoint-removal-race", Trigger::Eviction)
    );
    // Without the condition (before 1.26, or with its gate off) the status says so only when all is over.
    let verdict = evicted(|world| world.at(1_300, status(None, Some("Evicted"), "Failed")));
    assert_eq!(
        (verdict.cause(), verdict.trigger),
        ("endpoint-removal-race", Trigger::Eviction)
    );
    let verdict = evicted(|world| world.at(110, status(None, Some("NodeShutdown"), "Failed")));
    assert_eq!(verdict.trigger, Trigger::NodeShutdown);
}

#[test]
fn a_pod_that_was_evicted_long_ago_begins_nothing_and_has_its_address_no_more() {
    let mut world = World::new();
    let old = PodState {
        reason: Some("Evicted".into()),
        phase: "Failed".into(),
        ..pod("evicted", "1", "10.244.1.5")
    };
    world.at(2, What::Pod(old));
    world.signal(115, super::world::APP, 15);
    world.delete(100, 30);
    world.listener(116, false, false);
    world.reset(140, "NO_SOCKET", true);
    world.inputs.sort_by_key(|i: &Input| i.at);
    let (verdicts, rollouts) = world.run();
    assert_eq!(
        verdicts[0].pod.as_ref().map(|p| p.uid.to_string()).as_deref(),
        Some("old")
    );
    assert_eq!(
        rollouts.iter().map(|r| r.pods).collect::<Vec<_>>(),
        [1],
        "the pod that ended now"
    );
}
