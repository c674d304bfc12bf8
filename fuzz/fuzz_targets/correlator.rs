//! Inputs that are well-typed and otherwise anything: recorded ones, in any order, with values of one in another. Four bytes
//! each: which line (2), which of its values (1), what stands there instead (1; 0: nothing else).
#![no_main]

#[path = "said.rs"]
mod said;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use zdt_parsers::input::Input;

/// One record of each kind of evidence.
const RECORDS: &[&str] = &[
    include_str!("../../tests/fixtures/immediate-exit/yes-answer-cut.jsonl"),
    include_str!("../../tests/fixtures/stale-conntrack-entry/yes-port-used-again.jsonl"),
    include_str!("../../tests/fixtures/accept-queue-overflow/yes-syn.jsonl"),
];

struct Pool {
    lines: Vec<Value>,
    values: Vec<Value>,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let all = RECORDS.iter().flat_map(|record| record.lines().skip(1));
        let lines: Vec<Value> = all
            .map(|line| serde_json::from_str(line).expect("a fixture"))
            .collect();
        let mut values = vec![
            json!(0),
            json!(1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(u32::MAX),
            json!(-1),
            json!(65535),
            json!(255),
            json!(""),
            json!("\u{1b}[31m\n\u{202e}<script>"),
            json!("::"),
            json!("0.0.0.0:0"),
            json!([]),
            json!({}),
            json!(null),
            json!(true),
            json!(false),
        ];
        let mut at = 0;
        while values.len() < 256 && at < 4096 {
            let mut line = lines[at % lines.len()].clone();
            if let Some(leaf) = leaf(&mut line, at / lines.len() * 5 + at % 7)
                && !values.contains(leaf)
            {
                values.push(leaf.clone());
            }
            at += 1;
        }
        Pool { lines, values }
    })
}

/// The value of this number, counted from the beginning and around.
fn leaf(value: &mut Value, number: usize) -> Option<&mut Value> {
    fn leaves<'a>(value: &'a mut Value, all: &mut Vec<&'a mut Value>) {
        match value {
            Value::Array(of) => of.iter_mut().for_each(|v| leaves(v, all)),
            Value::Object(of) => of.values_mut().for_each(|v| leaves(v, all)),
            other => all.push(other),
        }
    }
    let mut all = Vec::new();
    leaves(value, &mut all);
    let number = number.checked_rem(all.len())?;
    all.into_iter().nth(number)
}

fuzz_target!(|script: &[u8]| {
    let pool = pool();
    let mut inputs = Vec::new();
    for step in script.chunks_exact(4).take(2_000) {
        let [low, high, which, instead] = step else { return };
        let line = usize::from(u16::from_le_bytes([*low, *high])) % pool.lines.len();
        let mut value = pool.lines[line].clone();
        if *instead > 0
            && let Some(leaf) = leaf(&mut value, usize::from(*which))
        {
            *leaf = pool.values[usize::from(*instead) % pool.values.len()].clone();
        }
        if let Ok(input) = serde_json::from_value::<Input>(value) {
            inputs.push(input);
        }
    }
    said::all(&inputs);
});
