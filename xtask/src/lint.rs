//! `cargo xtask lint`: rustfmt and clippy, as CI asks for them.

use std::process::ExitCode;

use anyhow::Result;

use crate::child;

pub fn run() -> Result<ExitCode> {
    format()?;
    clippy()?;
    Ok(ExitCode::SUCCESS)
}

pub fn format() -> Result<()> {
    child::run(child::cargo().args(["fmt", "--all", "--check"]))?;
    // The kernel half, the fuzz targets and what counts instructions are workspaces of their own.
    child::run(child::cargo().args(["fmt", "--check", "--manifest-path", "zdt-ebpf/Cargo.toml"]))?;
    child::run(child::cargo().args(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))?;
    child::run(child::cargo().args([
        "fmt",
        "--check",
        "--manifest-path",
        "zdt-daemon/instructions/Cargo.toml",
    ]))
}

pub fn clippy() -> Result<()> {
    child::run(child::cargo().args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}
