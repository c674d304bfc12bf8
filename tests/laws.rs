//! Laws of the correlator, tried on recorded inputs that are then bent at random.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

mod support;

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::Index};
use support::{fixtures, outputs};
use zdt_daemon::{
    causes::UNEXPLAINED,
    input::{Input, What},
    verdict::{Confidence, Output, Verdict},
};

fn verdicts(inputs: &[Input]) -> BTreeMap<String, Verdict> {
    let all = outputs(inputs).into_iter();
    all.filter_map(|o| {
        if let Output::Verdict(v) = o {
            Some((v.client.to_string(), *v))
        } else {
            None
        }
    })
    .collect()
}

fn bytes(outputs: &[Output]) -> String {
    serde_json::to_string(outputs).unwrap()
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    for fixture in fixtures() {
        assert_eq!(
            bytes(&outputs(&fixture.inputs)),
            bytes(&outputs(&fixture.inputs)),
            "{}",
            fixture.path.display()
        );
    }
}

#[test]
fn a_record_written_and_read_again_is_the_same_inputs() {
    for fixture in fixtures() {
        for input in &fixture.inputs {
            let line = serde_json::to_string(input).unwrap();
            assert_eq!(serde_json::from_str::<Input>(&line).unwrap(), *input);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// I7: what was lost is counted; a verdict may become unexplained or vanish, but never another cause, and it says
    /// that something was lost.
    #[test]
    fn a_lost_kernel_event_never_changes_a_cause_into_another(which in any::<Index>(), lost in prop::collection::vec(any::<Index>(), 1..4)) {
        let all = fixtures();
        let fixture = which.get(&all);
        let before = verdicts(&fixture.inputs);
        // Without the rules, a stale entry is known by the attempt that left it alone.
        prop_assume!(fixture.name != "yes-rules-not-known");
        let kernel: Vec<usize> = fixture.inputs.iter().enumerate()
            .filter(|(_, i)| matches!(i.what, What::Kernel(_))).map(|(n, _)| n).collect();
        prop_assume!(!kernel.is_empty());
        let gone: Vec<usize> = lost.iter().map(|i| *i.get(&kernel)).collect();
        // Each lost event is reported as a loss where it would have been.
        let inputs: Vec<Input> = fixture.inputs.iter().enumerate().map(|(n, input)| {
            if gone.contains(&n) {
                Input { at: input.at, what: What::Loss { source: "ring".into(), count: 1 } }
            } else {
                input.clone()
            }
        }).collect();
        for (client, verdict) in verdicts(&inputs) {
            let Some(old) = before.get(&client) else { continue };
            prop_assert!(
                verdict.cause() == old.cause() || verdict.cause() == UNEXPLAINED || old.cause() == UNEXPLAINED,
                "{}: {} became {}", fixture.path.display(), old.cause(), verdict.cause()
            );
        }
    }

    /// A loss in a verdict's window lowers its confidence and nothing else.
    #[test]
    fn a_loss_changes_nothing_but_confidence(which in any::<Index>(), at in any::<Index>()) {
        let all = fixtures();
        let fixture = which.get(&all);
        let mut inputs = fixture.inputs.clone();
        let n = at.index(inputs.len());
        let when = inputs[n].at;
        inputs.insert(n, Input { at: when, what: What::Loss { source: "ring".into(), count: 1 } });
        let before = verdicts(&fixture.inputs);
        let after = verdicts(&inputs);
        prop_assert_eq!(before.len(), after.len());
        for (client, mut verdict) in after {
            let old = &before[&client];
            if verdict.confidence != old.confidence {
                prop_assert_ne!(verdict.confidence, Confidence::Full);
                verdict.confidence = old.confidence;
            }
            prop_assert_eq!(&verdict, old);
        }
    }

    /// Whatever comes in whatever order: no panic, and at most one verdict for each connection's end.
    #[test]
    fn any_order_of_inputs_is_survived(which in any::<Index>(), seed in any::<u64>()) {
        let all = fixtures();
        let fixture = which.get(&all);
        let mut inputs = fixture.inputs.clone();
        let mut state = seed | 1;
        for n in (1..inputs.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            inputs.swap(n, usize::try_from(state >> 33).unwrap() % (n + 1));
        }
        let ends = inputs.iter().filter(|i| matches!(i.what, What::Kernel(_))).count();
        prop_assert!(verdicts(&inputs).len() <= ends);
    }
}
