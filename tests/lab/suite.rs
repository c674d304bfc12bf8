//! `zdt-lab run` and `zdt-lab score`: scenarios, side by side, and the table or the JSON object of their scores.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    advice,
    jobs::{Done, Job, all},
    net::{SLOTS, fitting, require_root},
    run::{Binaries, Ran, Setup},
    scenario::{Family, Scenario},
    score::{Counts, causes::Confusion, limits, stages, table},
};

/// Where the daemon is and where the results go.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The daemon's binary
    #[arg(long, value_name = "FILE")]
    pub zdt: PathBuf,
    /// Folder for the results, one folder in it for each run
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    pub out: PathBuf,
    /// Wait until the daemon has summed the rollout up, and keep what its /metrics says then
    #[arg(long)]
    pub scrape: bool,
    /// Let a Prometheus scrape the daemons meanwhile: their addresses are in targets.json of the run's folder (for its
    /// file_sd_configs), and the run waits for it, before the client starts and before the daemons end
    #[arg(long)]
    pub prometheus: bool,
    /// Write to `daemons.json` where the daemons listen, and let them run until there is a file `release` beside it
    #[arg(long)]
    pub hold: bool,
    /// Runs side by side [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(SLOTS)))]
    pub jobs: Option<u8>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub place: Place,
    /// Decides delays, names and the client's timing
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    pub place: Place,
    /// Folder of scenario files, with the folders in it; may be given more than once
    #[arg(long, value_name = "DIR", required = true)]
    pub scenarios: Vec<PathBuf>,
    /// Runs of each scenario, with the seeds 1 to N
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Only the scenarios that can be run over IPv6, each over IPv6
    #[arg(long)]
    pub v6: bool,
    /// Where the daemon says that a preStop sleep would have prevented every failure: run it again with that, and expect none
    #[arg(long)]
    pub advice: bool,
    /// What missed beside others is run once more, alone; only what misses again counts as missed. Both runs are in the sums
    #[arg(long)]
    pub again: bool,
    /// Exactly one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

impl Place {
    /// Checks what would otherwise fail in the middle of a run.
    pub fn setup(&self) -> Result<Setup> {
        require_root()?;
        Ok(Setup {
            binaries: Binaries::keep(&self.zdt, &self.out)?,
            out: self.out.clone(),
            scrape: self.scrape,
            prometheus: self.prometheus,
            hold: self.hold,
            sample: None,
            jobs: self.jobs.unwrap_or_else(fitting),
        })
    }
}

/// `zdt-lab run FILE…`
pub fn run_files(args: &RunArgs) -> Result<ExitCode> {
    let scenarios = args
        .files
        .iter()
        .map(|f| Scenario::read(f))
        .collect::<Result<Vec<_>, _>>()?;
    let setup = args.place.setup()?;
    let done = all(&setup, &each(&scenarios, &[args.seed]))?;
    println!("{}", text(&done.ran));
    verdict(&done)
}

/// `zdt-lab score --scenarios DIR`
pub fn score(args: &ScoreArgs) -> Result<ExitCode> {
    let mut scenarios = Vec::new();
    for dir in &args.scenarios {
        scenarios.extend(Scenario::read_dir(dir)?);
    }
    if args.v6 {
        scenarios = scenarios.iter().filter_map(|s| s.in_family(Family::V6)).collect();
    }
    let mut setup = args.place.setup()?;
    let seeds: Vec<u64> = (1..=args.seeds).collect();
    let mut done = all(&setup, &each(&scenarios, &seeds))?;
    let mut short = Vec::new();
    if args.advice {
        let tried = try_advice(&setup, &scenarios, &mut done)?;
        if tried.is_empty() {
            short.push(NOTHING_TRIED.to_string());
        }
        scenarios.extend(tried);
    }
    if args.again {
        setup.jobs = 1;
        run_again(&setup, &scenarios, &mut done)?;
    }
    let (object, text) = (object(&done.ran), text(&done.ran));
    if args.json {
        println!("{object}");
        eprint!("{}", details(&done.ran));
    } else {
        println!("{text}");
    }
    keep(&args.place.out, "score.json", &format!("{object}\n"))?;
    keep(&args.place.out, "score.txt", &text)?;
    short.extend(limits::missed(&total(&done.ran), &confused(&done.ran)));
    for finding in &short {
        eprintln!("MISSED: {finding}");
    }
    let code = verdict(&done)?;
    Ok(if short.is_empty() { code } else { ExitCode::from(1) })
}

/// A score that was asked to try the advice and found none says nothing about it.
const NOTHING_TRIED: &str =
    "no advice was tried: no rollout here says that a preStop sleep would have prevented all that failed";

/// Adds a run with the advised setting for each that says it needs nothing else.
fn try_advice(setup: &Setup, scenarios: &[Scenario], done: &mut Done) -> Result<Vec<Scenario>> {
    let trials: Vec<(Scenario, u64)> = done
        .ran
        .iter()
        .filter_map(|ran| {
            let scenario = scenarios.iter().find(|s| s.name == ran.name)?;
            Some((advice::trial(scenario, ran)?, ran.seed))
        })
        .collect();
    let jobs: Vec<Job<'_>> = trials
        .iter()
        .map(|(scenario, seed)| Job {
            scenario,
            seed: *seed,
        })
        .collect();
    let mut tried = all(setup, &jobs)?;
    done.ran.append(&mut tried.ran);
    done.errors.append(&mut tried.errors);
    Ok(trials.into_iter().map(|(scenario, _)| scenario).collect())
}

/// What the name of a second run ends with.
const AGAIN: &str = "-again";

/// Adds a second run, alone, for each that missed.
fn run_again(setup: &Setup, scenarios: &[Scenario], done: &mut Done) -> Result<()> {
    let missed = done.ran.iter().filter(|ran| !ran.score.findings.is_empty());
    let again: Vec<(Scenario, u64)> = missed
        .filter_map(|ran| {
            let mut scenario = scenarios.iter().find(|s| s.name == ran.name)?.clone();
            scenario.name += AGAIN;
            Some((scenario, ran.seed))
        })
        .collect();
    let jobs: Vec<Job<'_>> = again
        .iter()
        .map(|(scenario, seed)| Job {
            scenario,
            seed: *seed,
        })
        .collect();
    let mut second = all(setup, &jobs)?;
    done.ran.append(&mut second.ran);
    done.errors.append(&mut second.errors);
    Ok(())
}

/// The score as a file beside the runs.
fn keep(out: &Path, name: &str, text: &str) -> Result<()> {
    let path = out.join(name);
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// An error when a run could not be made; what the others came to is printed by then.
fn verdict(done: &Done) -> Result<ExitCode> {
    if done.errors.is_empty() {
        return Ok(code(&done.ran));
    }
    let texts: Vec<String> = done.errors.iter().map(|e| format!("{e:#}")).collect();
    bail!("{} runs could not be made:\n{}", texts.len(), texts.join("\n"))
}

/// Every seed of a scenario, then the next scenario.
fn each<'a>(scenarios: &'a [Scenario], seeds: &[u64]) -> Vec<Job<'a>> {
    let of = |scenario| seeds.iter().map(move |&seed| Job { scenario, seed });
    scenarios.iter().flat_map(of).collect()
}

/// Exit status 1 when an expectation was missed, and again where that was tried.
pub fn code(ran: &[Ran]) -> ExitCode {
    let missed = |r: &&Ran| !r.score.findings.is_empty();
    let fine_alone = |r: &Ran| {
        let again = ran
            .iter()
            .find(|a| a.seed == r.seed && a.name == format!("{}{AGAIN}", r.name));
        again.is_some_and(|a| a.score.findings.is_empty())
    };
    let missed = ran.iter().filter(missed).any(|r| !fine_alone(r));
    ExitCode::from(u8::from(missed))
}

fn total(ran: &[Ran]) -> Counts {
    let mut total = Counts::default();
    for r in ran {
        total.add(&r.score.counts);
    }
    total
}

fn text(ran: &[Ran]) -> String {
    let rows: Vec<table::Row<'_>> = ran
        .iter()
        .map(|r| table::Row {
            name: &r.name,
            seed: Some(r.seed),
            counts: &r.score.counts,
            missed: r.score.findings.len(),
        })
        .collect();
    format!(
        "{}\n{}\n{}\n{}",
        details(ran),
        stages::table(&stages_of(ran)),
        confused(ran).text(),
        table::table(&rows, &total(ran))
    )
}

/// What was taken for what in all of them.
fn confused(ran: &[Ran]) -> Confusion {
    let mut all = Confusion::default();
    for r in ran {
        all.add(&r.score.confused);
    }
    all
}

/// Every run's stages together.
fn stages_of(ran: &[Ran]) -> stages::Errors {
    let mut all = stages::Errors::new();
    for (stage, errors) in ran.iter().flat_map(|r| &r.stages) {
        all.entry(stage).or_default().extend(errors);
    }
    all
}

/// Causes by outcome, and each expectation that was missed, with where to look.
fn details(ran: &[Ran]) -> String {
    let mut text = String::new();
    for r in ran {
        text += &r.name;
        text += "\n";
        text += &table::confusion(&r.score);
        for finding in &r.score.findings {
            text += "  MISSED: ";
            text += finding;
            text += " (";
            text += &r.files.dir.display().to_string();
            text += ")\n";
        }
    }
    text
}

fn object(ran: &[Ran]) -> Value {
    let scenarios: Vec<Value> = ran
        .iter()
        .map(|r| {
            let mut one = table::fields(&r.score.counts);
            if let Some(map) = one.as_object_mut() {
                map.insert("name".to_owned(), json!(r.name));
                map.insert("seed".to_owned(), json!(r.seed));
                map.insert("replayed".to_owned(), json!(r.replayed));
                map.insert("missed".to_owned(), json!(r.score.findings));
                map.insert("causes".to_owned(), causes(r));
            }
            one
        })
        .collect();
    let stages: serde_json::Map<String, Value> = stages_of(ran)
        .iter()
        .map(|(stage, errors)| {
            let one = json!({"compared": errors.len(), "off_ms_p95": stages::p95(errors)});
            ((*stage).to_owned(), one)
        })
        .collect();
    let confused = confused(ran).object();
    json!({
        "scenarios": scenarios,
        "total": table::fields(&total(ran)),
        "causes": confused.get("causes"),
        "confusion": confused.get("confusion"),
        "stages": stages,
    })
}

/// Cause to outcome to count.
fn causes(ran: &Ran) -> Value {
    let mut causes = serde_json::Map::new();
    for ((cause, outcome), count) in &ran.score.confusion {
        let one = causes.entry(cause.clone()).or_insert_with(|| json!({}));
        if let Some(map) = one.as_object_mut() {
            map.insert((*outcome).to_owned(), json!(count));
        }
    }
    Value::Object(causes)
}
