//! Starts other programs: shows what runs, says what failed, asks sudo only when needed.
#![expect(
    clippy::disallowed_methods,
    reason = "xtask reads the clock and the environment of the developer's shell"
)]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::layout;

/// A command that starts in the repository's root.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(layout::root());
    command
}

/// `cargo` as the developer has it: without what `cargo run` says of this program's own package, since build scripts that ask for
/// it (ring's) would run again, and much behind them, whenever this one and the developer's take turns.
pub fn cargo() -> Command {
    let mut cargo = command(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_"].map(str::as_bytes);
        if own.iter().any(|own| name.as_encoded_bytes().starts_with(own)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The triple that the developer's compiler builds for.
pub fn host() -> Result<String> {
    let said = stdout(command("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// `cargo` that runs what it builds (tests, benchmarks) with root's rights.
pub fn cargo_as_root() -> Result<Command> {
    let mut cargo = cargo();
    if !is_root()? {
        let host = host()?.replace('-', "_").to_uppercase();
        cargo.env(format!("CARGO_TARGET_{host}_RUNNER"), "sudo --preserve-env --");
    }
    Ok(cargo)
}

/// Runs to the end; an exit status other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and passes its exit status on.
pub fn status(command: &mut Command) -> Result<ExitCode> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    // Ended by a signal: an error.
    let code = status.code().and_then(|c| u8::try_from(c).ok());
    Ok(ExitCode::from(code.unwrap_or(2)))
}

/// Runs to the end and returns what it printed.
pub fn stdout(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same program with root's rights: as it is when we are root, through sudo else.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root()? {
        return Ok(command(program));
    }
    let Some(sudo) = find("sudo") else {
        bail!(
            "{} needs root: run this command as root, or install sudo",
            program.as_ref().display()
        );
    };
    let mut command = command(sudo);
    command.arg("--").arg(program);
    Ok(command)
}

/// Effective user id 0, from /proc/self/status (real, effective, saved, file system: proc(5)).
pub fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let euid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    Ok(euid == Some("0"))
}

/// A program in PATH, or in the folders that hold the system's own programs and are in root's PATH only.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// PATH with one folder before the others.
pub fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&path)))
        .context("PATH cannot be extended")
}

/// Runs `work` and returns its result and its seconds.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}
