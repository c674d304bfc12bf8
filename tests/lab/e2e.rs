//! `zdt-lab e2e`: the scenarios that a cluster can express, on any cluster with zdt installed, through its API alone.
//!
//! What the load client saw comes from its pod's log, what zdt says from the logs of its pods. Both have a wall clock of
//! their node in them, so the nodes' clocks must agree within the second that matching allows (score/matching.rs).

mod act;
mod clocks;
mod cluster;
mod fits;
mod objects;
mod said;
mod trial;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    scenario::Scenario,
    score::{Counts, Score, causes::Confusion, table},
};
use cluster::Cluster;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How to reach the cluster
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Image of the test server and the load client, as the nodes know it (`cargo xtask image --lab` makes it)
    #[arg(long, value_name = "REF", default_value = concat!("zdt-lab:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// What the names of the namespaces begin with, one for each scenario, made and removed [default: zdt-e2e- and a number]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Where zdt is installed
    #[arg(long, value_name = "NAME", default_value = "zdt")]
    pub zdt_namespace: String,
    /// Folder of scenario files, with the folders in it; may be given more than once
    #[arg(long, value_name = "DIR", default_value = "tests/scenarios")]
    pub scenarios: Vec<PathBuf>,
    /// Only the scenario of this name; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<String>,
    /// Decides the client's timing
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seconds longer than the scenario says the client sends: pods of a real cluster take their time
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub longer: u32,
    /// Exactly one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// What one scenario came to.
struct Tried {
    name: String,
    score: Score,
}

/// A scenario that was not run, and why.
struct Skipped {
    name: String,
    why: String,
}

/// Exit status 1: an expectation was missed.
pub fn run(args: &Args) -> Result<ExitCode> {
    let wanted = scenarios(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut tried, mut skipped, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let mut cluster = Cluster::connect(args).await?;
        let prefix = cluster.namespace.clone();
        for (number, scenario) in (1..).zip(&wanted) {
            // zdt would take a workload that is made again under its name for a rolling update of the one before.
            cluster.namespace = format!("{prefix}-{number}");
            let name = scenario.name.clone();
            if let Err(why) = fits::fits(scenario, cluster.nodes.len()) {
                tracing::info!("{name}: skipped: {why}");
                skipped.push(Skipped { name, why });
                continue;
            }
            match Box::pin(trial::run(&cluster, scenario, args)).await {
                Ok(Some(score)) => tried.push(Tried { name, score }),
                Ok(None) => bail!("interrupted"),
                Err(error) if error.downcast_ref::<trial::Unfit>().is_some() => {
                    let why = error.to_string();
                    skipped.push(Skipped { name, why });
                }
                Err(error) => {
                    tracing::error!("{name}: {error:#}");
                    errors.push(format!("{name}: {error:#}"));
                }
            }
        }
        Ok(())
    })?;
    if args.json {
        println!("{}", object(&tried, &skipped, args.seed));
        eprint!("{}", details(&tried, &skipped));
    } else {
        println!("{}", text(&tried, &skipped, args.seed));
    }
    if !errors.is_empty() {
        bail!(
            "{} scenarios could not be run:\n{}",
            errors.len(),
            errors.join("\n")
        );
    }
    let missed = tried.iter().any(|one| !one.score.findings.is_empty());
    Ok(ExitCode::from(u8::from(missed)))
}

fn scenarios(args: &Args) -> Result<Vec<Scenario>> {
    let mut all = Vec::new();
    for dir in &args.scenarios {
        all.extend(Scenario::read_dir(dir)?);
    }
    if args.scenario.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = args
        .scenario
        .iter()
        .find(|name| all.iter().all(|s| s.name != **name))
    {
        bail!("no scenario {unknown} in {:?}", args.scenarios);
    }
    all.retain(|scenario| args.scenario.contains(&scenario.name));
    Ok(all)
}

fn total(tried: &[Tried]) -> Counts {
    let mut total = Counts::default();
    for one in tried {
        total.add(&one.score.counts);
    }
    total
}

fn confused(tried: &[Tried]) -> Confusion {
    let mut all = Confusion::default();
    for one in tried {
        all.add(&one.score.confused);
    }
    all
}

fn text(tried: &[Tried], skipped: &[Skipped], seed: u64) -> String {
    let rows: Vec<table::Row<'_>> = tried
        .iter()
        .map(|one| table::Row {
            name: &one.name,
            seed: Some(seed),
            counts: &one.score.counts,
            missed: one.score.findings.len(),
        })
        .collect();
    format!(
        "{}\n{}\n{}",
        details(tried, skipped),
        confused(tried).text(),
        table::table(&rows, &total(tried))
    )
}

/// Causes by outcome, each expectation that was missed, and what was not run.
fn details(tried: &[Tried], skipped: &[Skipped]) -> String {
    let mut text = String::new();
    for one in tried {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}\n{}", one.name, table::confusion(&one.score));
        for finding in &one.score.findings {
            let _ = writeln!(text, "  MISSED: {finding}");
        }
    }
    for one in skipped {
        let _ = writeln!(text, "skipped {}: {}", one.name, one.why);
    }
    text
}

fn object(tried: &[Tried], skipped: &[Skipped], seed: u64) -> Value {
    let scenario = |one: &Tried| {
        let mut fields = table::fields(&one.score.counts);
        if let Some(map) = fields.as_object_mut() {
            map.insert("name".to_owned(), json!(one.name));
            map.insert("seed".to_owned(), json!(seed));
            map.insert("missed".to_owned(), json!(one.score.findings));
        }
        fields
    };
    let skipped = skipped
        .iter()
        .map(|one| json!({"name": one.name, "why": one.why}));
    let confused = confused(tried).object();
    json!({
        "scenarios": tried.iter().map(scenario).collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
        "total": table::fields(&total(tried)),
        "causes": confused.get("causes"),
        "confusion": confused.get("confusion"),
    })
}
