//! Tests of the rolling update's arithmetic.

use k8s_openapi::api::apps::v1::RollingUpdateDeployment;
use proptest::prelude::*;

use super::*;

fn limits(surge: IntOrString, unavailable: IntOrString, replicas: i32) -> (i32, i32) {
    let rolling = RollingUpdateDeployment {
        max_surge: Some(surge),
        max_unavailable: Some(unavailable),
    };
    let strategy = DeploymentStrategy {
        rolling_update: Some(rolling),
        type_: None,
    };
    let limits = Limits::resolve(Some(&strategy), replicas);
    (limits.surge, limits.unavailable)
}

#[test]
fn surge_rounds_up_and_unavailable_rounds_down() {
    let percent = |text: &str| IntOrString::String(text.into());
    assert_eq!(limits(percent("25%"), percent("25%"), 10), (3, 2));
    assert_eq!(limits(percent("30%"), percent("0%"), 3), (1, 0));
    assert_eq!(limits(IntOrString::Int(2), IntOrString::Int(1), 10), (2, 1));
    assert_eq!(limits(IntOrString::Int(0), IntOrString::Int(0), 10), (0, 1));
    assert_eq!(limits(IntOrString::Int(0), IntOrString::Int(20), 10), (0, 10));
    assert_eq!(
        Limits::resolve(None, 3),
        Limits {
            surge: 1,
            unavailable: 0
        }
    );
}

proptest! {
    /// Any order of the two controllers' steps, with pods that become available one by one: the limits hold at every
    /// step and the rollout ends.
    #[test]
    fn a_rollout_keeps_its_limits_and_ends(
        replicas in 1..12_i32,
        surge in 0..5_i32,
        unavailable in 0..5_i32,
        order in prop::collection::vec(0..2_u8, 0..400),
    ) {
        let unavailable = if surge + unavailable == 0 { 1 } else { unavailable }.min(replicas);
        let limits = Limits { surge, unavailable };
        let mut old = Counts { wanted: replicas, available: replicas };
        let mut new = Counts { wanted: 0, available: 0 };
        let steps = order.into_iter().chain([0, 1].into_iter().cycle()).take(1000);
        for step in steps {
            if step == 0 {
                new.wanted = new_replicas(replicas, limits, new.wanted, new.wanted + old.wanted);
                old.wanted = old_replicas(replicas, limits, new, &[old])[0];
                // The ReplicaSet controller deletes at once; a status that lags is the next test's.
                old.available = old.available.min(old.wanted);
            } else if new.available < new.wanted {
                new.available += 1;
            }
            prop_assert!(old.wanted + new.wanted <= replicas + surge, "{old:?} {new:?}");
            prop_assert!(old.available + new.available >= replicas - unavailable, "{old:?} {new:?}");
        }
        prop_assert_eq!((old.wanted, new.wanted, new.available), (0, replicas, replicas));
    }

    /// The old set's status still counts pods that it was told to drop: nothing more is dropped because of them.
    #[test]
    fn a_status_that_lags_does_not_break_the_limits(
        replicas in 1..12_i32, surge in 0..5_i32, unavailable in 0..5_i32, rounds in 1..5_u8,
    ) {
        let limits = Limits { surge, unavailable: unavailable.min(replicas) };
        let mut old = Counts { wanted: replicas, available: replicas };
        let new = Counts { wanted: surge.min(replicas), available: 0 };
        for _ in 0..rounds {
            old.wanted = old_replicas(replicas, limits, new, &[old])[0];
        }
        prop_assert!(old.wanted >= replicas - limits.unavailable, "{old:?}");
    }
}
