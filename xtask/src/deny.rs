//! `cargo xtask deny`: what is linked into zdt, against `deny.toml`: licences, sources and bans, and RustSec's advisories (the
//! database that `cargo audit` reads, too).
//!
//! No step of CI: what is asked changes without a commit, so that what was green would fail by itself; and it has to be built, and
//! its database fetched.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{child, layout, needs};

/// Each has its own lock file.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "zdt-ebpf/Cargo.toml", "fuzz/Cargo.toml"];

const WITHOUT_DATABASE: [&str; 3] = ["bans", "licenses", "sources"];

pub fn run() -> Result<ExitCode> {
    if !has_program() {
        install()?;
    }
    let checks: &[&str] = match child::run(deny().args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0")) {
        Ok(()) => &["all"],
        Err(error) => {
            eprintln!("deny: the advisories cannot be had, so they are NOT looked at: {error:#}");
            &WITHOUT_DATABASE
        }
    };
    let mut found = false;
    for manifest in WORKSPACES {
        eprintln!("deny: {manifest}: {}", checks.join(", "));
        let said = child::run(
            deny()
                .args(["--locked", "--manifest-path", manifest, "--config", "deny.toml"])
                // Not every licence that may be is in each of them; the trees behind a crate with two versions are long.
                .args(["check", "--hide-inclusion-graph"])
                .args(["--allow", "license-not-encountered"])
                .args(checks),
        );
        found |= said.inspect_err(|error| eprintln!("deny: {error:#}")).is_err();
    }
    let looked_at = checks.contains(&"all");
    println!(
        "deny: licences, sources, bans, {}: {}",
        if looked_at {
            "advisories"
        } else {
            "NOT the advisories"
        },
        if found { "see above" } else { "nothing found" }
    );
    // What is not known is never a pass.
    Ok(ExitCode::from(u8::from(found || !looked_at)))
}

fn program() -> std::path::PathBuf {
    layout::tools().join("bin/cargo-deny")
}

fn deny() -> std::process::Command {
    child::command(program())
}

/// Of this version.
fn has_program() -> bool {
    let said = child::stdout(deny().arg("--version"));
    said.is_ok_and(|said| said.split_whitespace().last() == Some(needs::CARGO_DENY))
}

fn install() -> Result<()> {
    eprintln!(
        "deny: building cargo-deny {} into {} (two to four minutes)",
        needs::CARGO_DENY,
        layout::tools().display()
    );
    let built = layout::target().join("cargo-deny-build");
    let mut cargo = child::cargo();
    cargo
        .args(["install", "cargo-deny", "--quiet", "--locked", "--version"])
        .args([needs::CARGO_DENY, "--root"])
        .arg(layout::tools())
        // It looks at a few hundred crates: its own profile (one unit, optimised as a whole) takes longer than it ever saves.
        .envs([
            ("CARGO_PROFILE_RELEASE_LTO", "off"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ])
        .env("CARGO_TARGET_DIR", &built);
    let (result, seconds) = child::timed(|| child::run(&mut cargo));
    result.context("cargo-deny cannot be built")?;
    drop(fs::remove_dir_all(built));
    eprintln!("deny: built cargo-deny in {seconds:.0} s");
    Ok(())
}
