//! Tests of `paused`: when zdt did not run, and what is said of it.

use super::*;

const S: u64 = 1_000_000_000;

fn tick(at: u64) -> Input {
    Input {
        at: Ktime(at),
        what: What::Tick,
    }
}

/// What comes before a tick that is taken as soon as it is made.
fn before(pauses: &mut Pauses, at: u64) -> Vec<What> {
    let first = pauses.before(Ktime(at), &tick(at));
    first.into_iter().map(|input| input.what).collect()
}

#[test]
fn who_runs_says_nothing_however_many_or_few_inputs_come() {
    let mut pauses = Pauses::default();
    for at in [7 * S, 7 * S, 8 * S, 10 * S, 10 * S + 1, 12 * S] {
        assert_eq!(before(&mut pauses, at), []);
    }
}

#[test]
fn a_pause_is_said_before_what_comes_and_closed_when_the_watches_had_time_to_tell() {
    let mut pauses = Pauses::default();
    assert_eq!(before(&mut pauses, 7 * S), []);
    let said = before(&mut pauses, 12 * S);
    let broken = WATCHED.map(|resource| What::WatchBroken {
        resource: resource.to_owned(),
        since: Ktime(7 * S),
    });
    let lost = What::Loss {
        source: "paused".to_owned(),
        count: 1,
    };
    assert_eq!(said[..4], broken);
    assert_eq!(said[4..], [lost]);
    assert_eq!(before(&mut pauses, 12 * S + S / 2), []);
    let whole = WATCHED.map(|resource| What::WatchGap {
        resource: resource.to_owned(),
        since: Ktime(7 * S),
    });
    assert_eq!(before(&mut pauses, 13 * S), whole);
    assert_eq!(before(&mut pauses, 14 * S), [], "once");
}

#[test]
fn a_tick_that_was_made_before_the_pause_closes_nothing() {
    let mut pauses = Pauses::default();
    before(&mut pauses, 7 * S);
    let late = pauses.before(Ktime(20 * S), &tick(7 * S));
    assert_eq!(late.len(), 5);
    let later = pauses.before(Ktime(21 * S + S / 2), &tick(20 * S + S / 2));
    assert!(later.is_empty(), "the watches have their time from its end on");
}

#[test]
fn two_pauses_one_behind_the_other_are_one_gap() {
    let mut pauses = Pauses::default();
    before(&mut pauses, 7 * S);
    before(&mut pauses, 12 * S);
    let again = before(&mut pauses, 15 * S);
    let since = |what: &What| match what {
        What::WatchBroken { since, .. } | What::WatchGap { since, .. } => Some(*since),
        _ => None,
    };
    assert!(again.iter().filter_map(since).all(|s| s == Ktime(7 * S)));
    assert_eq!(before(&mut pauses, 16 * S).len(), 4);
}
