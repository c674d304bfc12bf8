//! Tests of `index`: what a watch leads to, told in order, again, late, and after an interruption.

use proptest::prelude::*;

use super::*;

fn pod(uid: &str, phase: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"uid": uid, "name": uid, "namespace": "n", "resourceVersion": "1"},
        "status": {"phase": phase}
    }))
    .unwrap()
}

fn broke(index: &mut Index<PodState>, at: u64) -> usize {
    let mut out = Vec::new();
    index.interrupted(Ktime(at), Ktime(at), &mut out);
    out.len()
}

/// What each event led to: `+uid phase`, `-uid`, `gap`.
fn said(index: &mut Index<PodState>, at: u64, events: Vec<Event<Pod>>) -> Vec<String> {
    let mut out = Vec::new();
    for event in events {
        index.step(Ktime(at), event, &mut out);
    }
    out.into_iter()
        .map(|input| match input.what {
            What::Pod(p) => format!("+{} {}", p.uid, p.phase),
            What::PodGone { uid } => format!("-{uid}"),
            What::WatchBroken { since, .. } => format!("broken {}", since.0),
            What::WatchGap { since, .. } => format!("gap {}..{}", since.0, input.at.0),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn listed(index: &mut Index<PodState>, at: u64, pods: &[&str]) -> Vec<String> {
    let mut events = vec![Event::Init];
    events.extend(pods.iter().map(|uid| Event::InitApply(pod(uid, "Running"))));
    events.push(Event::InitDone);
    said(index, at, events)
}

#[test]
fn first_list_is_no_gap_and_says_every_object() {
    let mut index = Index::default();
    assert_eq!(listed(&mut index, 1, &["a", "b"]), ["+a Running", "+b Running"]);
    assert!(index.listed());
}

#[test]
fn unchanged_state_is_not_said_again() {
    let mut index = Index::default();
    listed(&mut index, 1, &["a"]);
    let mut again = pod("a", "Running");
    again.metadata.resource_version = Some("2".into());
    assert!(said(&mut index, 2, vec![Event::Apply(again)]).is_empty());
    let mut failed = pod("a", "Failed");
    failed.metadata.resource_version = Some("3".into());
    assert_eq!(said(&mut index, 2, vec![Event::Apply(failed)]), ["+a Failed"]);
}

#[test]
fn new_list_after_an_interruption_marks_the_gap_and_what_went_in_it() {
    let mut index = Index::default();
    listed(&mut index, 1, &["a", "b", "c"]);
    assert_eq!((broke(&mut index, 5), broke(&mut index, 6)), (1, 0), "said once");
    assert_eq!(
        listed(&mut index, 9, &["b", "d"]),
        ["+d Running", "-a", "-c", "gap 5..9"]
    );
}

#[test]
fn watch_that_resumes_where_it_was_is_a_gap_that_ends_behind_what_it_had_missed() {
    let settled = |index: &mut Index<PodState>, ms: u64| {
        let mut out = Vec::new();
        index.settle(Ktime(0).plus_ms(ms), &mut out);
        out.len()
    };
    let mut index = Index::default();
    listed(&mut index, 1, &["a"]);
    broke(&mut index, 5);
    assert_eq!(settled(&mut index, 9_000), 0, "it is not there yet");
    index.began(Ktime(0).plus_ms(9_000));
    assert_eq!(
        said(&mut index, 9, vec![Event::Delete(pod("a", "Running"))]),
        ["-a"]
    );
    assert_eq!(settled(&mut index, 9_499), 0);
    broke(&mut index, 7);
    assert_eq!(settled(&mut index, 9_600), 0, "it broke again");
    index.began(Ktime(0).plus_ms(9_700));
    assert_eq!((settled(&mut index, 10_200), settled(&mut index, 20_000)), (1, 0));
    assert!(
        said(&mut index, 10, vec![Event::Delete(pod("a", "Running"))]).is_empty(),
        "gone only once"
    );
}

#[test]
fn server_that_was_only_slow_leaves_a_gap_only_where_something_came_late() {
    let settled = |index: &mut Index<PodState>, at: u64| {
        let mut out = Vec::new();
        index.settle(Ktime(0).plus_ms(at), &mut out);
        out.pop().map(|input| input.what)
    };
    let pods = || "pods".to_owned();
    let mut index = Index::default();
    listed(&mut index, 1, &["a"]);
    index.doubt(Ktime(5), Ktime(3), &mut Vec::new());
    assert_eq!(settled(&mut index, 9_000), None, "it has not answered yet");
    index.doubt_ends(Ktime(0).plus_ms(9_000));
    assert_eq!(settled(&mut index, 9_400), None);
    assert_eq!(
        settled(&mut index, 9_500),
        Some(What::WatchWhole { resource: pods() })
    );
    let (at, since) = (Ktime(0).plus_ms(20_000), Ktime(0).plus_ms(19_000));
    index.doubt(at, since, &mut Vec::new());
    let mut late = Vec::new();
    index.step(at, Event::Apply(pod("a", "Failed")), &mut late);
    index.doubt_ends(Ktime(0).plus_ms(25_000));
    assert_eq!((late.len(), settled(&mut index, 20_499)), (1, None));
    let gap = What::WatchGap {
        resource: pods(),
        since,
    };
    assert_eq!(settled(&mut index, 20_500), Some(gap));
}

#[test]
fn errors_before_the_first_list_are_no_gap() {
    let mut index = Index::default();
    said(&mut index, 1, vec![Event::Init]);
    assert_eq!(broke(&mut index, 2), 0);
    assert_eq!(listed(&mut index, 3, &["a"]), ["+a Running"]);
}

#[test]
fn pod_of_the_same_name_is_another_pod() {
    let mut index = Index::default();
    listed(&mut index, 1, &["a"]);
    let mut again = pod("a2", "Running");
    again.metadata.name = Some("a".into());
    assert_eq!(said(&mut index, 2, vec![Event::Apply(again)]), ["+a2 Running"]);
    assert_eq!(
        said(&mut index, 3, vec![Event::Delete(pod("a", "Running"))]),
        ["-a"]
    );
}

/// One object's life: what is told of it, in its order.
fn life(uid: &str, states: &[u8], deleted: bool, version: &mut u64) -> Vec<Event<Pod>> {
    let mut told = |phase: u8| {
        *version += 1;
        let mut object = pod(uid, ["Pending", "Running", "Failed"][usize::from(phase % 3)]);
        object.metadata.resource_version = Some(version.to_string());
        object
    };
    let mut events: Vec<_> = states.iter().map(|phase| Event::Apply(told(*phase))).collect();
    if deleted {
        events.push(Event::Delete(told(2)));
    }
    events
}

proptest! {
    #[test]
    fn what_is_told_again_or_late_changes_nothing(
        lives in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..5), any::<bool>()), 1..5),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
    ) {
        let mut version = 0;
        let mut events = Vec::new();
        for (n, (states, deleted)) in lives.iter().enumerate() {
            events.extend(life(&format!("pod-{n}"), states, *deleted, &mut version));
        }
        let mut index = Index::default();
        let wanted = said(&mut index, 1, events.clone());

        // Each repetition comes somewhere behind the one that it repeats.
        let mut at: Vec<Vec<Event<Pod>>> = vec![Vec::new(); events.len()];
        for (which, behind) in again {
            let which = which.index(events.len());
            at[which + behind.index(events.len() - which)].push(events[which].clone());
        }
        let mut lying = Index::default();
        let mut told = Vec::new();
        for (event, repeated) in events.into_iter().zip(at) {
            told.extend(said(&mut lying, 1, vec![event]));
            told.extend(said(&mut lying, 1, repeated));
        }
        prop_assert_eq!(told, wanted);
        let states = |index: &Index<PodState>| index.states().cloned().collect::<Vec<_>>();
        prop_assert_eq!(states(&lying), states(&index));
    }
}

#[test]
fn list_may_go_back_as_after_a_restore() {
    let mut index = Index::default();
    let mut version = 100;
    let events = life("a", &[1], true, &mut version);
    assert_eq!(said(&mut index, 1, events), ["+a Running", "-a"]);
    assert_eq!(listed(&mut index, 2, &["a"]), ["+a Running"]);
}

#[test]
fn deletions_that_are_remembered_are_bounded() {
    let mut index = Index::default();
    let mut version = 0;
    for n in 0..3 * MOST_GONE {
        let events = life(&format!("pod-{n}"), &[1], true, &mut version);
        said(&mut index, 1, events);
    }
    assert_eq!((index.gone.len(), index.went.len()), (MOST_GONE, MOST_GONE));
}
