//! `cargo xtask fuzz`: a run of each fuzz target of `fuzz/`, with a stable compiler and without cargo-fuzz.
//!
//! libFuzzer needs coverage instrumentation only, which is code generation options (`-C`); what needs a nightly is
//! sanitizers, and what they read with is safe Rust.

use std::{fs, path::Path, process::ExitCode, thread};

use anyhow::{Context as _, Result, bail};

use crate::{child, layout, setup};

/// As cargo-fuzz passes them (its `src/project.rs`), without sanitizers.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The programs of `fuzz/Cargo.toml`.
const TARGETS: &[&str] = &[
    "nftables",
    "conntrack",
    "iptables",
    "events",
    "btf",
    "record",
    "correlator",
    "objects",
    "http",
];

/// How long each runs in CI: all of them take less than their build.
const SHORT_S: u32 = 5;

/// Targets that run at the same time: each takes one core.
const AT_ONCE: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Only this one: nftables, conntrack, iptables, events, btf, record, correlator, objects or http.
    target: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let chosen = |target: &&&str| args.target.as_ref().is_none_or(|only| only == **target);
    let targets: Vec<&str> = TARGETS.iter().filter(chosen).copied().collect();
    if targets.is_empty() {
        bail!("no such fuzz target; there are: {}", TARGETS.join(", "));
    }
    each(&targets, args.seconds)?;
    Ok(ExitCode::SUCCESS)
}

/// All targets, a few seconds each.
pub fn short() -> Result<()> {
    each(TARGETS, SHORT_S)
}

fn each(targets: &[&str], seconds: u32) -> Result<()> {
    setup::cxx()?;
    let host = child::host()?;
    // Beside the other builds: these flags would make cargo build all of them anew.
    let built = layout::target().join("fuzz");
    let mut cargo = child::cargo();
    cargo
        .env("RUSTFLAGS", INSTRUMENTED)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--quiet", "--locked", "--release", "--bins"])
        .args([
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            &host,
            "--target-dir",
        ])
        .arg(&built);
    let (result, took) = child::timed(|| child::run(&mut cargo));
    result.context("the fuzz targets do not build")?;
    eprintln!("fuzz: built in {took:.0} s");
    let mut crashed = Vec::new();
    let run = |target: &str| one(target, &built.join(&host).join("release").join(target), seconds);
    for together in targets.chunks(AT_ONCE) {
        let ended = thread::scope(|scope| {
            let begun: Vec<_> = together
                .iter()
                .map(|target| scope.spawn(|| run(target)))
                .collect();
            let ended = begun.into_iter().map(thread::ScopedJoinHandle::join);
            ended.collect::<Vec<_>>()
        });
        for (target, ended) in together.iter().zip(ended) {
            match ended.unwrap_or_else(|_| bail!("cannot be run")) {
                Ok(line) => eprintln!("fuzz: {target}: {line}"),
                Err(error) => {
                    eprintln!("fuzz: {target}: {error:#}");
                    crashed.push(*target);
                }
            }
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    bail!(
        "crashed: {}. What it crashed on is in fuzz/artifacts; move it to fuzz/corpus/<target> with the fix, so that it is \
         tried for ever",
        crashed.join(", ")
    )
}

/// Runs one target on its corpus; what it finds new stays in `target/`.
fn one(target: &str, program: &Path, seconds: u32) -> Result<String> {
    let corpus = layout::root().join("fuzz/corpus").join(target);
    let found = layout::target().join("fuzz/found").join(target);
    let artifacts = layout::root().join("fuzz/artifacts").join(target);
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let mut run = child::command(program);
    run.arg(format!("-max_total_time={seconds}"))
        .args([
            "-print_final_stats=1",
            "-rss_limit_mb=1024",
            "-timeout=10",
            "-verbosity=0",
        ])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([&found, &corpus]);
    let output = run
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // libFuzzer writes to stderr.
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(30));
        let last: Vec<&str> = last.copied().collect();
        bail!("{}\n{}", output.status, last.join("\n"));
    }
    let number = |name: &str| {
        said.lines()
            .find_map(|l| l.strip_prefix(name))
            .map_or("?", str::trim)
    };
    Ok(format!(
        "{} inputs tried in {seconds} s, {} of them new ground",
        number("stat::number_of_executed_units:"),
        number("stat::new_units_added:")
    ))
}
