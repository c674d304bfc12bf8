//! `cargo xtask build`: the eBPF object, then the daemon with the object inside, and the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{child, layout, setup, toolchain::Rust};

#[derive(clap::Args)]
pub struct Args {
    /// Optimised binaries.
    #[arg(long)]
    release: bool,
    /// Leave the kernel half out: the daemon builds and tests, and says so when it is asked to load hooks.
    #[arg(long)]
    no_ebpf: bool,
    /// Build the eBPF object a second time, from a copy of its source in another folder: the same bytes must come out.
    #[arg(long, conflicts_with = "no_ebpf")]
    twice: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.no_ebpf {
        ebpf()?;
    }
    if args.twice {
        elsewhere()?;
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
    let (result, seconds) = child::timed(|| build_ebpf(&rust, &layout::root()));
    result.context("the eBPF half does not build")?;
    eprintln!("build: eBPF object in {seconds:.1} s");
    Ok(())
}

/// Another checkout, as far as the object can tell.
fn elsewhere() -> Result<()> {
    let rust = setup::ebpf()?;
    let copy = layout::target().join("tmp/elsewhere");
    drop(fs::remove_dir_all(&copy));
    fs::create_dir_all(&copy)?;
    child::run(
        child::command("cp")
            .args(["-a", "zdt-ebpf", "zdt-common"])
            .arg(&copy),
    )?;
    build_ebpf(&rust, &copy)?;
    let object = |root: &Path| {
        let file = object_of(root);
        fs::read(&file).with_context(|| file.display().to_string())
    };
    if object(&layout::root())? != object(&copy)? {
        bail!(
            "the same source gives another eBPF object in another folder: compare {} with {}",
            object_of(&layout::root()).display(),
            object_of(&copy).display()
        );
    }
    eprintln!("build: the same eBPF object from {}", copy.display());
    fs::remove_dir_all(&copy)?;
    Ok(())
}

fn object_of(root: &Path) -> PathBuf {
    let folder = root.join("target/ebpf").join(layout::BPF_TARGET);
    folder.join("release/zdt-ebpf")
}

const RUSTFLAGS: &[&str] = &[
    // These two give the object its BTF, which the ring buffer map and tp_btf programs need.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Else LLVM may write no memory in line, and calls a function instead. One call in a program is enough for the verifier
    // of kernels before 6.2 to need a hundred times as long, beyond its limit (zdt-ebpf/src/cgroup.rs, `is_pod`).
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

/// From the source below a root, into its `target`.
fn build_ebpf(rust: &Rust, root: &Path) -> Result<()> {
    let mut cargo = child::command(&rust.cargo);
    cargo
        .current_dir(root.join("zdt-ebpf"))
        .env("PATH", child::path_with(&layout::tools().join("bin"))?)
        .env("RUSTC", &rust.rustc)
        // Unstable flags with a stable compiler: no prebuilt core exists for this target.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", ebpf_flags(rust, root)?)
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
        .arg(root.join("target/ebpf"));
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

fn ebpf_flags(rust: &Rust, root: &Path) -> Result<String> {
    let sysroot = child::stdout(child::command(&rust.rustc).args(["--print", "sysroot"]))?;
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.extend(without_paths(root)?);
    flags.push(format!("--remap-path-prefix={}=/rust", sysroot.trim()));
    Ok(flags.join("\u{1f}"))
}

/// Flags for rustc: no path of this machine gets into what is built from the source below a root, and the same source gives the
/// same bytes: of the kernel half in any folder (`cargo xtask build --twice`), as all its packages are inside of its workspace.
#[expect(clippy::disallowed_methods, reason = "cargo's home is a setting of cargo's")]
pub fn without_paths(root: &Path) -> Result<[String; 2]> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    Ok([
        format!("--remap-path-prefix={home}=/cargo"),
        format!("--remap-path-prefix={}=/zdt", root.display()),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::layout;

    /// Cargo hashes the path of a package outside of the workspace into the symbols of what it builds.
    #[test]
    fn every_package_of_the_kernel_half_is_inside_of_its_workspace() {
        let folder = layout::root().join("zdt-ebpf");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let paths: Vec<_> = manifest.lines().filter(|line| line.contains("path = ")).collect();
        assert!(paths.iter().any(|line| line.contains("zdt-common")), "{paths:?}");
        assert!(
            paths
                .iter()
                .all(|line| !line.contains("..") && !line.contains("\"/")),
            "{paths:?}"
        );
        assert!(folder.join("zdt-common").is_symlink());
    }

    /// What zdt-common takes from its workspace stands twice.
    #[test]
    fn both_workspaces_give_the_same_packages() {
        let settings = |file: &str| -> Vec<String> {
            let manifest = fs::read_to_string(layout::root().join(file)).unwrap();
            let (_, behind) = manifest.split_once("[workspace.package]\n").unwrap();
            let of_package = behind
                .lines()
                .take_while(|line| !line.is_empty())
                .map(str::to_owned);
            let zerocopy = behind
                .lines()
                .find(|line| line.starts_with("zerocopy = "))
                .unwrap();
            of_package.chain([zerocopy.to_owned()]).collect()
        };
        assert_eq!(settings("zdt-ebpf/Cargo.toml"), settings("Cargo.toml"));
    }
}
