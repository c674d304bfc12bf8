//! `cargo xtask setup`: makes a fresh machine ready, says each step with its reason, costs nothing when all is there.

use std::{collections::BTreeSet, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    child, layout,
    needs::{self, Need},
    toolchain::{self, Rust},
};

#[derive(clap::Args)]
pub struct Args {
    /// Look at everything again, also when the last run found nothing missing.
    #[arg(long)]
    again: bool,
}

/// What the last complete setup found: `target/setup.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    rust: Rust,
    /// Modification time of `rust.rustc` in seconds: another compiler at the same path is looked at again.
    rustc_mtime: i64,
    bpf_linker: String,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.again {
        drop(fs::remove_file(stamp_path()));
    }
    let (rust, seconds) = child::timed(ebpf);
    let rust = rust?;
    lab()?;
    eprintln!(
        "setup: ready ({seconds:.1} s): Rust {} with the sources of core at {}, bpf-linker {}, the lab's programs",
        rust.release,
        rust.rustc.display(),
        needs::BPF_LINKER
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything: what the eBPF build needs, and the lab's programs. One package installation for both.
pub fn ebpf() -> Result<Rust> {
    if let Some(stamp) = valid_stamp() {
        lab()?;
        return Ok(stamp.rust);
    }
    let found = toolchain::find()?;
    let mut missing: Vec<&Need> = unmet(needs::LAB);
    missing.extend(llvm_missing());
    if let Err(rejected) = &found {
        eprintln!("setup: no Rust toolchain here can build the eBPF half:");
        for why in rejected {
            eprintln!("setup:   {why}");
        }
        // A Debian toolchain that is there and does not fit is not mended by installing it again.
        missing.extend(unmet(needs::RUST));
    }
    install(&missing, found.is_err())?;
    let rust = match found {
        Ok(rust) => rust,
        Err(_) => match toolchain::find()? {
            Ok(rust) => rust,
            Err(rejected) => bail!(
                "no Rust toolchain with the sources of core:\n  {}\ninstall one with `rustup component add rust-src`",
                rejected.join("\n  ")
            ),
        },
    };
    if !has_linker() {
        build_linker()?;
    }
    write_stamp(&rust)?;
    Ok(rust)
}

/// Only the lab's programs: for what runs without the eBPF toolchain.
pub fn lab() -> Result<()> {
    let missing = unmet(needs::LAB);
    install(&missing, false)
}

/// What the benchmark compares zdt with. It leaves out what is not there, so this cannot fail.
pub fn tools() {
    let missing = unmet(needs::TOOLS);
    if let Err(error) = install(&missing, false) {
        eprintln!("setup: some tools are left out of the comparison: {error:#}");
    }
}

/// Only a C++ compiler: libFuzzer is built from its source.
pub fn cxx() -> Result<()> {
    let missing = unmet(needs::FUZZ);
    install(&missing, false)
}

/// Only what counts instructions.
pub fn instructions() -> Result<()> {
    let missing = unmet(needs::INSTRUCTIONS);
    install(&missing, false)
}

/// Only what boots other kernels.
pub fn kernels() -> Result<()> {
    let missing = unmet(needs::KERNELS);
    install(&missing, false)
}

fn unmet(needs: &'static [Need]) -> Vec<&'static Need> {
    needs.iter().filter(|n| !n.is_met()).collect()
}

/// Installs the packages of what is missing, in one command, on Debian; says what to install elsewhere.
fn install(missing: &[&Need], rust_missing: bool) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    for need in missing {
        eprintln!(
            "setup: missing {:<45} package {:<14} {}",
            need.what, need.package, need.why
        );
    }
    let packages: BTreeSet<&str> = missing.iter().map(|n| n.package).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&os) || child::find("apt-get").is_none() {
        bail!("{}", elsewhere(&os, &packages, rust_missing));
    }
    eprintln!(
        "setup: apt-get install {} (about half a minute)",
        packages.join(" ")
    );
    // Package lists may be absent (containers) or so old that they name files that are gone: then update and try again.
    let (first, seconds) = child::timed(|| apt_install(&packages));
    let Err(error) = first else {
        eprintln!("setup: installed in {seconds:.0} s");
        return Ok(());
    };
    eprintln!(
        "setup: apt-get update, since the first try failed: {}",
        last_line(&error.to_string())
    );
    child::stdout(child::as_root("apt-get")?.args(["update", "-qq"])).context(
        "the package lists cannot be brought up to date: check the network and /etc/apt/sources.list.d",
    )?;
    let (second, seconds) = child::timed(|| apt_install(&packages));
    second.with_context(|| {
        format!(
            "Debian's packages cannot be installed; by hand: apt-get install --no-install-recommends {}",
            packages.join(" ")
        )
    })?;
    eprintln!("setup: installed in {seconds:.0} s");
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    // Through env: sudo does not pass the environment on. --no-remove: never takes away what the developer has.
    child::stdout(
        child::as_root("env")?
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "-qq",
            ])
            .args([
                "--no-remove",
                "--no-install-recommends",
                "-o",
                "DPkg::Lock::Timeout=120",
            ])
            .args(packages),
    )
    .map(drop)
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default()
}

fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .any(|l| l == "ID=debian" || l == "ID=\"debian\"")
}

fn elsewhere(os_release: &str, packages: &[&str], rust_missing: bool) -> String {
    let name = os_release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or("an unknown system", |n| n.trim_matches('"'));
    let mut lines = vec![format!(
        "this is {name}, and setup can install packages on Debian only. Install:"
    )];
    let known = needs::LAB.iter().chain(needs::TOOLS).chain(needs::INSTRUCTIONS);
    for need in known.filter(|n| packages.contains(&n.package)) {
        lines.push(format!(
            "  {:<22} {} (Debian's package {})",
            need.what, need.why, need.package
        ));
    }
    if packages.contains(&"llvm-22-dev") {
        lines.push(format!(
            "  LLVM {} with its development files; then set LLVM_PREFIX to the folder that holds bin/llvm-config",
            needs::LLVM
        ));
    }
    if packages.contains(&"g++") {
        lines.push("  a C++ compiler with libstdc++".to_owned());
    }
    if rust_missing {
        lines.push("  the sources of core: rustup component add rust-src".to_owned());
    }
    lines.push(
        "then run the same command again. Without the eBPF toolchain: cargo xtask build --no-ebpf".to_owned(),
    );
    lines.join("\n")
}

/// bpf-linker needs LLVM to be built and to run; a developer may bring their own.
fn llvm_missing() -> Vec<&'static Need> {
    if std::env::var_os("LLVM_PREFIX").is_some() {
        return Vec::new();
    }
    unmet(needs::LINKER)
}

fn has_linker() -> bool {
    layout::bpf_linker().is_file()
}

fn build_linker() -> Result<()> {
    eprintln!(
        "setup: building bpf-linker {} into {} (about a minute): it links the eBPF object and writes its BTF",
        needs::BPF_LINKER,
        layout::tools().display()
    );
    let mut cargo = child::cargo();
    // The build script asks $LLVM_PREFIX/bin/llvm-config before any llvm-config in PATH, which may be another version's.
    if std::env::var_os("LLVM_PREFIX").is_none() {
        cargo.env("LLVM_PREFIX", needs::LLVM_DIR);
    }
    cargo
        .args([
            "install",
            "bpf-linker",
            "--quiet",
            "--version",
            needs::BPF_LINKER,
            "--locked",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{}", needs::LLVM),
            "--root",
        ])
        .arg(layout::tools())
        // Its dependencies are built once and never again.
        .env("CARGO_TARGET_DIR", layout::target().join("bpf-linker-build"));
    let (result, seconds) = child::timed(|| child::run(&mut cargo));
    result.context("bpf-linker cannot be built")?;
    drop(fs::remove_dir_all(layout::target().join("bpf-linker-build")));
    eprintln!("setup: built bpf-linker in {seconds:.0} s");
    Ok(())
}

fn stamp_path() -> std::path::PathBuf {
    layout::target().join("setup.json")
}

fn rustc_mtime(rust: &Rust) -> Option<i64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(&rust.rustc).ok().map(|m| m.mtime())
}

/// The last setup's stamp, if everything in it is still so.
fn valid_stamp() -> Option<Stamp> {
    let stamp: Stamp = serde_json::from_str(&fs::read_to_string(stamp_path()).ok()?).ok()?;
    let same = rustc_mtime(&stamp.rust) == Some(stamp.rustc_mtime)
        && stamp.rust.cargo.is_file()
        && stamp.rust.core.is_dir()
        && stamp.bpf_linker == needs::BPF_LINKER
        && llvm_missing().is_empty()
        && has_linker();
    same.then_some(stamp)
}

fn write_stamp(rust: &Rust) -> Result<()> {
    let stamp = Stamp {
        rust: rust.clone(),
        rustc_mtime: rustc_mtime(rust).context("rustc has no modification time")?,
        bpf_linker: needs::BPF_LINKER.to_owned(),
    };
    let path = stamp_path();
    fs::write(&path, serde_json::to_string(&stamp)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_gets_apt() {
        assert!(is_debian(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"
        ));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
    }

    #[test]
    fn another_distribution_is_told_each_thing_to_install() {
        let text = elsewhere(
            "PRETTY_NAME=\"Fedora Linux 44\"\nID=fedora\n",
            &["iptables", "llvm-22-dev", "g++"],
            true,
        );
        for part in [
            "Fedora Linux 44",
            "iptables-nft-restore",
            "LLVM 22",
            "libstdc++",
            "rustup component add rust-src",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert!(
            !text.contains("conntrack"),
            "what is there is not asked for: {text}"
        );
    }
}
