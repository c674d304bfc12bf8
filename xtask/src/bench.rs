//! `cargo xtask bench`: what zdt costs, as ratios with their spread. Needs root and a machine that does nothing else.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{build, child, layout, setup};

#[derive(clap::Args)]
pub struct Args {
    /// One question; without it the benchmark of the whole: the application beside zdt and beside what people use instead,
    /// zdt itself, its kernel half, the correlator, latency and start.
    what: Option<What>,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Measured so often; the default is the benchmark's own.
    #[arg(long)]
    rounds: Option<usize>,
    /// So many times smaller than it is meant, to try the benchmark itself (`watches`).
    #[arg(long)]
    shrink: Option<usize>,
    /// A short run of the whole, whose figures are rough.
    #[arg(long, conflicts_with = "what")]
    quick: bool,
    /// One part of the whole.
    #[arg(long, conflicts_with = "what")]
    only: Option<Part>,
    /// Where the plot of the whole goes; without it target/bench/cost.svg.
    #[arg(long, conflicts_with = "what")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Throughput and latency beside each observer, and what that costs.
    Application,
    /// Nanoseconds in the kernel half for each connection.
    Kernel,
    /// Inputs a second, and bytes for each flow and pod.
    Correlator,
    /// From a failure to its verdict.
    Latency,
    /// From start to ready, with up to 150,000 endpoints.
    Start,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Kernel => "kernel",
            Self::Correlator => "correlator",
            Self::Latency => "latency",
            Self::Start => "start",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// One endpoint of 50,000 goes: when zdt knows, and its CPU beside the writer's, in each of kube-proxy's modes.
    Rules,
    /// What a look-up and a dump cost, and what a node with 20,000 new connections a second loses to its observers.
    Conntrack,
    /// What the watches cost each node of a cluster of 5,000 nodes and 150,000 pods: memory, CPU, and the lag of a change.
    Watches,
    /// What each kind of input takes in user space, in instructions. It fails where one takes 5 % more than the budget says
    /// (zdt-daemon/tests/budget.txt), and needs neither root nor a quiet machine.
    Instructions,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let name = match args.what {
        Some(What::Instructions) => return child::status(&mut counting(args.json)?),
        Some(What::Rules) => "rules",
        Some(What::Conntrack) => "conntrack",
        Some(What::Watches) => "watches",
        None => "whole",
    };
    setup::lab()?;
    build::ebpf()?;
    if args.what.is_none() {
        setup::tools();
    }
    let mut cargo = child::cargo_as_root()?;
    cargo.args([
        "bench",
        "--quiet",
        "--locked",
        "--package",
        "zdt-daemon",
        "--bench",
        name,
        "--",
    ]);
    if args.json {
        cargo.arg("--json");
    }
    if let Some(rounds) = args.rounds {
        cargo.arg("--rounds").arg(rounds.to_string());
    }
    if let Some(shrink) = args.shrink {
        cargo.arg("--shrink").arg(shrink.to_string());
    }
    if args.what.is_none() {
        let plot = plot(args)?;
        cargo.arg("--plot").arg(plot);
        if args.quick {
            cargo.arg("--quick");
        }
        if let Some(part) = args.only {
            cargo.args(["--only", part.name()]);
        }
    }
    child::status(&mut cargo)
}

/// What CI asks of them.
pub fn instructions() -> Result<()> {
    child::run(&mut counting(false)?)
}

fn counting(json: bool) -> Result<Command> {
    setup::instructions()?;
    let mut cargo = child::cargo();
    cargo.args(["run", "--quiet", "--locked", "--release"]);
    cargo.args([
        "--manifest-path",
        "zdt-daemon/instructions/Cargo.toml",
        "--target-dir",
    ]);
    cargo.arg(layout::target().join("instructions")).arg("--");
    if json {
        cargo.arg("--json");
    }
    Ok(cargo)
}

/// Cargo starts the benchmark in its package's folder, so the path is absolute.
fn plot(args: &Args) -> Result<PathBuf> {
    let plot = match &args.plot {
        Some(plot) => std::path::absolute(plot)?,
        None => layout::target().join("bench/cost.svg"),
    };
    let dir = plot.parent().context("the plot is a file")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(plot)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use crate::layout;

    /// Lines of a lock file that name a package and its version.
    fn packages(lock: &str) -> BTreeSet<String> {
        let lock = fs::read_to_string(layout::root().join(lock)).unwrap();
        let packages = lock.split("[[package]]\n").skip(1);
        let named = packages.map(|p| p.lines().take(2).collect::<Vec<_>>().join(", "));
        named.collect()
    }

    #[test]
    fn instructions_are_counted_in_the_versions_that_the_daemon_has() {
        let counted = packages("zdt-daemon/instructions/Cargo.lock");
        let ours = packages("Cargo.lock");
        let others: Vec<_> = counted.difference(&ours).collect();
        assert!(counted.len() > 20, "{counted:?}");
        assert_eq!(others, ["name = \"zdt-instructions\", version = \"0.1.0\""]);
    }
}
