//! `zdt-lab`: the lab's programs. Containers run `app`, `client` and `pause`; people run the rest.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use zdt_lab::{app, client, cut, demo, e2e, run, scan, soak, suite};

#[derive(Parser)]
#[command(
    name = "zdt-lab",
    version,
    about = "A real cluster's network on one machine, without a cluster"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run scenarios and score the daemon
    Run(suite::RunArgs),
    /// Run every scenario of a folder and print the table of scores
    Score(suite::ScoreArgs),
    /// A rollout that loses requests, the daemon's report, and the same rollout with what it advises
    Demo(demo::Args),
    /// Rollout after rollout under load beside one daemon: what it takes, and how it scores, over time
    Soak(soak::Args),
    /// A cluster with zdt on every node, for `zdt-lab e2e`: prints the path of its kubeconfig and stays until Ctrl-C
    Up(run::up::Args),
    /// Run scenarios on a cluster that has zdt installed, and print the table of scores
    E2e(e2e::Args),
    /// The sandbox process of a pod: waits for a signal
    Pause,
    /// Remove what died labs left behind (namespaces, cgroups, processes)
    Clean,
    /// The test server
    App(app::Args),
    /// The load client: prints a summary, writes the ground truth
    Client(client::Args),
    /// Connects to ports that nobody serves: background noise
    Scan(scan::Args),
    /// Cut one connection out of a record: a fixture
    Cut(cut::Args),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match verb(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("zdt-lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn verb(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => return suite::run_files(&args),
        Verb::Score(args) => return suite::score(&args),
        Verb::Demo(args) => return demo::demo(&args),
        Verb::Soak(args) => return soak::soak(&args),
        Verb::Up(args) => run::up::run(&args)?,
        Verb::E2e(args) => return e2e::run(&args),
        Verb::Pause => zdt_lab::node::pause()?,
        Verb::Clean => {
            zdt_lab::net::require_root()?;
            let swept = zdt_lab::net::clean()?;
            println!(
                "removed {} dead runs: {} processes, {} cgroups, {} namespaces",
                swept.runs, swept.processes, swept.cgroups, swept.netns
            );
        }
        Verb::Cut(args) => cut::run(&args)?,
        Verb::Scan(args) => runtime()?.block_on(scan::run(args))?,
        Verb::App(args) => runtime()?.block_on(app::run(args))?,
        Verb::Client(args) => {
            let summary = runtime()?.block_on(client::run(args))?;
            println!("{}", serde_json::to_string(&summary)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
