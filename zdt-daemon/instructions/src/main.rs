//! What each kind of input takes on its way to a verdict, in instructions: `cargo xtask bench instructions`.
//!
//! Each figure is the difference of two runs under callgrind, divided by what the one did more than the other: both make
//! ready for the longer one, so that the start, the making of the inputs and the end stand in neither.
#![allow(dead_code, reason = "modules are the benchmark's and the tests', too")]

// The name by which modules of the benchmark know it.
extern crate zdt_hot as zdt_daemon;

#[path = "../../tests/budget/file.rs"]
mod file;
#[path = "../../benches/whole/inputs.rs"]
mod inputs;
mod kinds;

use std::{
    process::{Command, ExitCode},
    thread,
};

use kinds::{KINDS, Kind};

/// Instructions of this program while it does `work` so often.
fn instructions(kind: &Kind, times: usize) -> u64 {
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args([kind.figure, &times.to_string()])
        .output()
        .expect("valgrind (Debian's package of that name) counts instructions");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success(),
        "{} ended with {}: {said}",
        kind.figure,
        ran.status
    );
    let counted = said
        .lines()
        .find_map(|l| l.split_once("Collected : ")?.1.trim().parse().ok());
    counted.unwrap_or_else(|| panic!("callgrind told no count: {said}"))
}

/// Of one input of this kind.
fn each(kind: &Kind) -> f64 {
    let (once, twice) = thread::scope(|scope| {
        let once = scope.spawn(|| instructions(kind, kind.times));
        let twice = instructions(kind, 2 * kind.times);
        (once.join().unwrap(), twice)
    });
    (twice - once) as f64 / kind.times as f64
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [figure, times] = &words[..] {
        let kind = KINDS
            .iter()
            .find(|kind| kind.figure == figure)
            .expect("a kind of input");
        (kind.run)(times.parse().unwrap(), 2 * kind.times);
        // Without what it would free.
        std::process::exit(0);
    }
    assert!(
        words.iter().all(|word| word == "--json"),
        "only --json, not {words:?}"
    );
    let counted: Vec<(&str, f64)> = KINDS.iter().map(|kind| (kind.figure, each(kind))).collect();
    if words.is_empty() {
        for (figure, count) in &counted {
            println!("{figure:<50}{count:>12.0}");
        }
    } else {
        let object: serde_json::Map<_, _> = counted
            .iter()
            .map(|(f, n)| ((*f).to_owned(), (*n).into()))
            .collect();
        println!("{}", serde_json::Value::Object(object));
    }
    let over = counted
        .iter()
        .filter_map(|(figure, count)| file::within(figure, *count).err());
    let over: Vec<String> = over
        .chain(file::without_a_measure(kinds::PREFIX, |f| {
            KINDS.iter().any(|k| k.figure == f)
        }))
        .collect();
    for why in &over {
        eprintln!("{why}");
    }
    if over.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
