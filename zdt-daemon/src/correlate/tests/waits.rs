//! When the correlator wants to be told the time.

use super::world::{World, ended_pod, ms};
use crate::{
    correlate::{Correlator, Settings},
    input::{Input, TcpState, What},
    verdict::Output,
};

/// Takes in what is there, and returns how many verdicts came.
fn take(correlator: &mut Correlator, world: &mut World) -> usize {
    let mut out = Vec::new();
    for input in world.inputs.drain(..) {
        correlator.step(&input, &mut out);
    }
    out.iter().filter(|o| matches!(o, Output::Verdict(_))).count()
}

#[test]
fn a_failure_is_due_a_grace_behind_its_end_and_judged_by_a_tick_at_that_time() {
    let mut correlator = Correlator::new(Settings::default());
    let mut world = World::new();
    world.at(50, What::Tick);
    assert_eq!(take(&mut correlator, &mut world), 0);
    assert_eq!((correlator.next_due(), correlator.is_open()), (None, false));

    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    assert_eq!(take(&mut correlator, &mut world), 0);
    assert_eq!(correlator.next_due(), Some(ms(2_140)));
    assert!(correlator.is_open(), "a pod goes");

    world.at(2_139, What::Tick);
    assert_eq!(take(&mut correlator, &mut world), 0);
    world.at(2_140, What::Tick);
    assert_eq!(take(&mut correlator, &mut world), 1);
    assert_eq!(correlator.next_due(), None);
}

#[test]
fn what_waits_for_an_interrupted_watch_is_due_when_it_comes_back() {
    let mut correlator = Correlator::new(Settings::default());
    let mut world = ended_pod();
    world.server_end(
        150,
        TcpState::Established,
        TcpState::FinWait1,
        super::world::unanswered(),
        true,
    );
    let (resource, since) = ("pods".to_owned(), ms(140));
    world.at(160, What::WatchBroken { resource, since });
    world.at(5_000, What::Tick);
    assert_eq!(take(&mut correlator, &mut world), 0);
    assert_eq!((correlator.next_due(), correlator.is_open()), (None, true));

    let mut out = Vec::new();
    let resource = "pods".to_owned();
    let what = What::WatchGap { resource, since };
    correlator.step(&Input { at: ms(6_000), what }, &mut out);
    assert!(out.iter().any(|o| matches!(o, Output::Verdict(_))), "{out:?}");
}
