//! Everything a developer runs: `cargo xtask <verb>`. One verb per file; CI calls nothing else.

mod bench;
mod build;
mod child;
mod demo;
mod deny;
mod e2e;
mod fuzz;
mod image;
mod kernels;
mod layout;
mod lint;
mod needs;
mod run;
mod score;
mod setup;
mod soak;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a developer of zdt runs", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this machine ready: a rustc with the sources of core, bpf-linker, the packages that the lab needs.
    /// The other verbs do this by themselves.
    Setup(setup::Args),
    /// Build everything: the eBPF object, the daemon `zdt` with the object inside, the lab.
    Build(build::Args),
    /// Build, then start the daemon on this machine; arguments go to `zdt run`.
    Run(run::Args),
    /// Show what zdt is for: a rolling update that loses requests, explained, and the same one with the advised setting.
    Demo(demo::Args),
    /// Run scenarios in the lab and print recall, precision and cause accuracy.
    Score(score::Args),
    /// Rollouts without end beside one daemon: memory, files, tables and the score over time; 1 when one grows or drops.
    Soak(soak::Args),
    /// Run the scenarios that a cluster can express on one with zdt installed, and print the same table.
    E2e(e2e::Args),
    /// Measure what zdt costs, beside what is measured and beside others who look on.
    Bench(bench::Args),
    /// Run the fuzz targets of fuzz/: what reads bytes that others wrote.
    Fuzz(fuzz::Args),
    /// Pack a static zdt as a container image: an OCI archive and the list of what is inside, without a registry.
    Image(image::Args),
    /// Boot other kernels in QEMU, and see each hook, its fields and some scenarios in each.
    Kernels(kernels::Args),
    /// What is linked in: licences, sources, and known advisories. Not in CI, since the advisories change without a commit.
    Deny,
    /// rustfmt and clippy, as CI asks for them.
    Lint,
    /// Everything that CI checks: lints, tests, the eBPF build, the lab with root, the score table.
    Test(test::Args),
    /// The same as `test`.
    Ci(test::Args),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Score(args) => score::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::E2e(args) => e2e::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Kernels(args) => kernels::run(&args),
        Verb::Deny => deny::run(),
        Verb::Lint => lint::run(),
        Verb::Test(args) | Verb::Ci(args) => Ok(test::run(&args)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
