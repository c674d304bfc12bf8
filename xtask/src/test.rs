//! `cargo xtask test` (and `ci`): everything that CI checks, step by step, so that green here is green there.

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, child, layout, lint, setup};

#[derive(clap::Args)]
pub struct Args {
    /// Go on after a failed step, to see all that fail.
    #[arg(long)]
    keep_going: bool,
}

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("setup: what the machine needs", || setup::ebpf().map(drop)),
    ("format: rustfmt finds nothing to change", lint::format),
    ("ebpf: the kernel half builds", build::ebpf),
    ("clippy: no warning, all targets", lint::clippy),
    ("test: unit, integration and architecture tests", unit),
    ("build: the daemon and the lab, optimised", || build::all(true)),
    ("lab: tests that need root (namespaces, rules, hooks)", lab),
    ("score: the scenarios of tests/scenarios/core", score),
];

pub fn run(args: &Args) -> ExitCode {
    let (mut passed, mut failed) = (0_u32, Vec::new());
    for (number, (name, step)) in STEPS.iter().enumerate() {
        eprintln!("\n== step {} of {}: {name}", number + 1, STEPS.len());
        let (result, seconds) = child::timed(step);
        match result {
            Ok(()) => {
                passed += 1;
                eprintln!("== ok in {seconds:.0} s");
            }
            Err(error) => {
                eprintln!("== FAILED after {seconds:.0} s: {error:#}");
                failed.push(*name);
                if !args.keep_going {
                    break;
                }
            }
        }
    }
    for name in &failed {
        eprintln!("failed: {name}");
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn unit() -> Result<()> {
    child::run(child::cargo().args(["test", "--locked", "--workspace"]))
}

/// Tests that need root are marked `#[ignore = "needs root"]`, so that plain `cargo test` works for everybody.
fn lab() -> Result<()> {
    child::run(child::cargo().args(["test", "--locked", "--workspace", "--no-run"]))
}

fn score() -> Result<()> {
    let mut lab = child::as_root(layout::binary("zdt-lab", true))?;
    lab.arg("score").arg("--zdt").arg(layout::binary("zdt", true));
    lab.arg("--scenarios").arg(layout::scenarios().join("core"));
    child::run(&mut lab)
}
