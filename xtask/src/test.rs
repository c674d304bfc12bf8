//! `cargo xtask test` (and `ci`): everything that CI checks, step by step, so that green here is green there.

use std::process::ExitCode;

use anyhow::Result;

use crate::{bench, build, child, fuzz, kernels, layout, lint, setup};

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
    (
        "test: units, architecture, laws, fixtures, the kernel half, the lab",
        tests,
    ),
    (
        "instructions: no input takes more of them than its budget",
        bench::instructions,
    ),
    ("fuzz: what comes from outside, 5 s each", fuzz::short),
    ("build: the daemon and the lab", || build::all(false)),
    (
        "kernels: each that can be had takes the kernel half",
        kernels::boots,
    ),
    ("score: one run of each scenario, and of the advice", score),
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

/// Also the tests that make namespaces and load hooks: they fail without root, so sudo runs them where it is needed.
fn tests() -> Result<()> {
    child::run(child::cargo_as_root()?.args(["test", "--locked", "--workspace"]))
}

/// Three at a time: most of a scenario's time is waiting for its rollout. Two cores are no quiet machine then: what misses is
/// run once more, alone, and fails only if it misses again.
const JOBS: &str = "3";

/// Everything but `propagation`, whose limit of 10 ms needs a quiet machine.
const FOLDERS: &[&str] = &[
    "core",
    "data-plane",
    "topology",
    "pods",
    "situations",
    "proxies",
    "faults",
];

/// With the binaries that the tests built: an
/// optimised build takes long, too.
fn score() -> Result<()> {
    let mut lab = child::as_root(layout::binary("zdt-lab", false))?;
    lab.arg("score").arg("--zdt").arg(layout::binary("zdt", false));
    for folder in FOLDERS {
        lab.arg("--scenarios").arg(layout::scenarios().join(folder));
    }
    lab.args(["--advice", "--again", "--jobs", JOBS]);
    child::run(&mut lab)
}
