//! What the watches say: lines of two letters (which watch, what it says) and an object of the API, in any order and however
//! they contradict each other.
#![no_main]

#[path = "said.rs"]
mod said;

use libfuzzer_sys::fuzz_target;
use zdt_parsers::{
    cluster::Watches,
    input::{Input, Ktime, Start, Wall, What},
};

fuzz_target!(|lines: &[u8]| {
    let start = Start {
        node: "n1".to_owned(),
        wall: Wall(1_700_000_000_000),
        kernel: "6.18".to_owned(),
        node_addrs: vec![[172, 18, 0, 2].into()],
        netns: Default::default(),
        hooks: Vec::new(),
        missing: Vec::new(),
        hz: 250,
    };
    let mut inputs = vec![Input {
        at: Ktime(1),
        what: What::Start(start),
    }];
    let mut watches = Watches::default();
    for (n, line) in lines.split(|b| *b == b'\n').enumerate() {
        let [kind, event, object @ ..] = line else {
            continue;
        };
        let at = Ktime(1).plus_ms(n as u64 * 700);
        inputs.extend(watches.told(at, *kind, *event, object));
        inputs.push(Input { at, what: What::Tick });
    }
    said::all(&inputs);
});
