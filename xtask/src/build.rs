//! `cargo xtask build`: the eBPF object, then the daemon with the object inside, and the lab.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{child, layout, setup, toolchain::Rust};

#[derive(clap::Args)]
pub struct Args {
    /// Optimised binaries.
    #[arg(long)]
    release: bool,
    /// Leave the kernel half out: the daemon builds and tests, and says so when it is asked to load hooks.
    #[arg(long)]
    no_ebpf: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.no_ebpf {
        ebpf()?;
    }
    userspace(args.release)?;
    Ok(ExitCode::SUCCESS)
}

/// Both halves.
pub fn all(release: bool) -> Result<()> {
    ebpf()?;
    userspace(release)
}

/// The kernel half: `target/ebpf/…/zdt-ebpf`.
pub fn ebpf() -> Result<()> {
    let rust = setup::ebpf()?;
    let (result, seconds) = child::timed(|| build_ebpf(&rust));
    result.context("the eBPF half does not build")?;
    eprintln!("build: eBPF object in {seconds:.1} s");
    Ok(())
}

const RUSTFLAGS: &[&str] = &[
    // These two give the object its BTF, which the ring buffer map and tp_btf programs need.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Else LLVM may write no memory in line, and calls a function instead. One call in a program is enough for the verifier
    // of kernels before 6.2 to need a hundred times as long, beyond its limit (zdt-ebpf/src/cgroup.rs, `is_pod`).
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

fn build_ebpf(rust: &Rust) -> Result<()> {
    let mut cargo = child::command(&rust.cargo);
    cargo
        .current_dir(layout::root().join("zdt-ebpf"))
        .env("PATH", child::path_with(&layout::tools().join("bin"))?)
        .env("RUSTC", &rust.rustc)
        // Unstable flags with a stable compiler: no prebuilt core exists for this target.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", ebpf_flags(rust)?)
        .args([
            "build",
            "--release",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
        ])
        .arg(layout::BPF_TARGET)
        .arg("--target-dir")
        .arg(layout::target().join("ebpf"));
    // Cargo and rustup set these for their children; they would bring the developer's own toolchain back in.
    for name in [
        "CARGO",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(name);
    }
    child::run(&mut cargo)
}

fn ebpf_flags(rust: &Rust) -> Result<String> {
    let sysroot = child::stdout(child::command(&rust.rustc).args(["--print", "sysroot"]))?;
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.extend(without_paths()?);
    flags.push(format!("--remap-path-prefix={}=/rust", sysroot.trim()));
    Ok(flags.join("\u{1f}"))
}

/// Flags for rustc: no path of this machine gets into what is built, and the same source gives the same bytes in the same
/// place. Elsewhere symbols differ: cargo hashes the path of a package outside of its workspace into them.
#[expect(clippy::disallowed_methods, reason = "cargo's home is a setting of cargo's")]
pub fn without_paths() -> Result<[String; 2]> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    Ok([
        format!("--remap-path-prefix={home}=/cargo"),
        format!("--remap-path-prefix={}=/zdt", layout::root().display()),
    ])
}

/// The daemon and the lab.
fn userspace(release: bool) -> Result<()> {
    let mut cargo = child::cargo();
    cargo.args([
        "build",
        "--locked",
        "--package",
        "zdt-daemon",
        "--package",
        "zdt-tests",
        "--bins",
    ]);
    // Where the other verbs look, whatever the developer's own setting is.
    cargo.arg("--target-dir").arg(layout::target());
    if release {
        cargo.arg("--release");
    }
    let (result, seconds) = child::timed(|| child::run(&mut cargo));
    result?;
    eprintln!(
        "build: {} and {} in {seconds:.1} s",
        layout::binary("zdt", release).display(),
        layout::binary("zdt-lab", release).display()
    );
    Ok(())
}
