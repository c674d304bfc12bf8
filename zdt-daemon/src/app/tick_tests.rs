//! Tests of `tick`: when the next one is to come.

use super::*;

fn ms(ms: u64) -> Ktime {
    Ktime(ms * 1_000_000)
}

fn waits(due: Option<u64>, open: bool) -> Waits {
    let due = due.map(ms);
    Waits { due, open }
}

#[test]
fn a_tick_comes_when_a_flow_is_due_and_not_at_the_next_quarter_of_a_second() {
    assert_eq!(waits(Some(10_100), true).next_tick(ms(10_000)), ms(10_100));
    assert_eq!(waits(Some(10_100), false).next_tick(ms(10_000)), ms(10_100));
    assert_eq!(waits(Some(12_000), true).next_tick(ms(10_000)), ms(10_250));
}

#[test]
fn flows_that_are_due_at_once_share_a_tick() {
    assert_eq!(waits(Some(10_001), true).next_tick(ms(10_000)), ms(10_020));
    // One that is late, for the consumer is.
    assert_eq!(waits(Some(9_000), true).next_tick(ms(10_000)), ms(10_020));
}

#[test]
fn time_passes_slowly_while_nothing_waits_for_it() {
    assert_eq!(waits(None, true).next_tick(ms(10_000)), ms(10_250));
    assert_eq!(waits(None, false).next_tick(ms(10_000)), ms(11_000));
}

#[test]
fn clock_is_woken_by_what_is_due_before_all_else_and_by_nothing_later() {
    let told = waits(Some(10_000), false);
    assert!(waits(Some(9_999), false).sooner(told));
    assert!(!waits(Some(10_001), false).sooner(told));
    assert!(!waits(None, false).sooner(told));
    assert!(waits(None, true).sooner(told));
    assert!(waits(Some(10_000), false).sooner(waits(None, true)));
}

#[test]
fn a_pod_that_is_told_of_makes_time_pass_faster_until_a_tick_finds_nothing_open() {
    let (mut waiting, told) = Waiting::new();
    // Judges nothing, and so has nothing open.
    let pipe = Pipe::new(None, Some(Box::new(Nowhere)));
    let mut step = |what| {
        let input = Input { at: ms(1_000), what };
        waiting.follow(&input, &pipe);
        told.borrow().open
    };
    assert!(step(What::Synced));
    assert!(!step(What::Tick));
    let (source, count) = ("decode".to_owned(), 1);
    assert!(!step(What::Loss { source, count }));
}

struct Nowhere;

impl crate::sink::Sink for Nowhere {
    fn deliver(&mut self, _: &crate::verdict::Output) -> std::io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
