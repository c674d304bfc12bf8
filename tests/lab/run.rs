//! Runs one scenario: cluster, daemon, client, actions; then the score of what the daemon said against what the client saw.

mod actions;
mod binaries;
mod cluster;
mod daemon;
mod doors;
mod files;
mod held;
mod ingress;
mod lives;
mod load;
pub(crate) mod manifest;
mod nat;
mod nodes;
mod noise;
pub(crate) mod objects;
mod privileges;
mod samples;
mod scrape;
mod times;
mod told;
pub mod up;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    net::{Slot, fitting},
    scenario::{Scenario, Step, Via},
    score::{Printed, Score, nat::Masquerades, score, stages},
    times::Times,
    truth::Truth,
};
use actions::Operator;
pub use binaries::Binaries;
use cluster::Cluster;
use daemon::events_lost;
pub use daemon::replay;
use doors::Doors;
pub use files::Files;
use lives::{Life, Lives};
use load::Load;
pub use samples::Sample;

/// The daemon judges a flow 2 s after its end (`judge_grace_ms`), with ticks of 0.25 s.
pub(crate) const JUDGING_GRACE: Duration = Duration::from_millis(2_500);

/// That nobody answers a client outside is certain when its SYN did not come again: 3.2 s after the last one, or twice the
/// pause before it (zdt-daemon/src/correlate/attempts/one.rs).
const SILENCE: Duration = Duration::from_millis(3_500);

/// What to run with.
#[derive(Debug)]
pub struct Setup {
    pub binaries: Binaries,
    /// Keep what `/metrics` says after the rollout.
    pub scrape: bool,
    /// Wait for the scrapes of a Prometheus.
    pub prometheus: bool,
    /// Say where the daemons listen, and let them run until the file `release` is there.
    pub hold: bool,
    /// Look so often at what the first node's daemon takes.
    pub sample: Option<Duration>,
    /// Each run gets a folder `<name>-<seed>` in it.
    pub out: PathBuf,
    /// Runs side by side, at least 1.
    pub jobs: u8,
}

/// One run's result.
#[derive(Debug)]
pub struct Ran {
    pub name: String,
    pub seed: u64,
    pub score: Score,
    /// The daemons' rollout summaries.
    pub rollouts: Vec<serde_json::Value>,
    /// Each record gave the same verdicts.
    pub replayed: bool,
    /// How far the stages of the propagation are from what the lab did.
    pub stages: stages::Errors,
    pub files: Files,
}

/// Runs a scenario to its end and removes what it made, also on Ctrl-C and on an error.
pub fn run(setup: &Setup, scenario: &Scenario, seed: u64) -> Result<Ran> {
    let files = fresh_folder(&setup.out, &scenario.name, seed)?;
    // A runtime for each run: whatever a task still holds is dropped with it, and the run's namespaces with that.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = live(setup, scenario, seed, &files) => done,
            signal = crate::world::interrupted() => signal.map_err(Into::into).and_then(|()| bail!("interrupted")),
        }
    });
    drop(runtime);
    judge(setup, scenario, seed, files, &done?)
}

fn fresh_folder(out: &Path, name: &str, seed: u64) -> Result<Files> {
    let dir = out.join(format!("{name}-{seed}"));
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", dir.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    Ok(Files::new(dir))
}

/// What judging needs beside the files.
struct Done {
    background: Vec<IpAddr>,
    lives: Vec<Life>,
}

async fn live(setup: &Setup, scenario: &Scenario, seed: u64, files: &Files) -> Result<Done> {
    let slot = Slot::take(setup.jobs.max(fitting())).await?;
    let began = Instant::now();
    let progress = |what: &str| {
        tracing::info!(
            "{:>5.1} s  {} (seed {seed}): {what}",
            began.elapsed().as_secs_f64(),
            scenario.name
        );
    };
    let mut cluster = Cluster::start(slot, scenario, seed, setup.binaries.lab(), &files.dir).await?;
    let mut operator = Operator::new(scenario);
    cluster.deploy(&mut operator).await?;
    progress("pods are Ready, rules are programmed");
    if scenario.noise {
        noise::servers(&cluster).await?;
        progress("the background is there");
    }
    nodes::policies_there(&cluster.nodes, scenario).await?;
    let zdt = setup.binaries.zdt();
    let mut lives = Lives::start(&cluster, &zdt, files, setup.hold).await?;
    if setup.hold {
        held::announce(cluster.nodes.iter().map(AsRef::as_ref), files)?;
    }
    progress("the daemon is ready");
    let mut doors = if setup.prometheus {
        let mut doors = Doors::open(&cluster.nodes, &files.targets()).await?;
        doors.scraped().await?;
        Some(doors)
    } else {
        None
    };
    let sampling = setup.sample.map(|every| lives.sample(&files.samples(), every));
    let sampling = sampling.transpose()?;
    let target = cluster.target()?;
    if scenario.noise {
        noise::clients(&cluster, seed, files)?;
    }
    if scenario.client.via == Via::NodePort {
        nat::follow(&cluster, files).await?;
    }
    let load = Load::start(&cluster, scenario, target, seed, files).await?;
    progress(&format!(
        "the client sends {} requests a second to {target}",
        scenario.client.rate
    ));
    let start = Instant::now();
    for (n, action) in scenario.actions.iter().enumerate() {
        sleep_until(start + Duration::from_millis(action.at_ms)).await;
        match &action.what {
            Step::Api(how) => cluster.fail_api(how).await?,
            Step::RestartDaemon(how) => lives.restart(&cluster, &zdt, how).await?,
            Step::PauseDaemon(ms) => lives.pause(Duration::from_millis(*ms)).await?,
            _ => operator.act(&cluster.store, &cluster.nodes, action, n).await?,
        }
        progress(&action.what.to_string());
    }
    load.ended(&cluster, scenario).await?;
    progress("the client has ended");
    cluster.settled(&operator).await?;
    cluster.recovered().await;
    let outside = scenario.client.place == crate::scenario::Place::Outside;
    sleep(JUDGING_GRACE + if outside { SILENCE } else { Duration::ZERO }).await;
    if setup.scrape {
        lives.scrape().await?;
        progress("the daemon's metrics have the rollout");
    }
    if let Some(doors) = &mut doors {
        doors.scraped().await?;
        progress("Prometheus has seen the end");
    }
    drop(doors);
    if setup.hold {
        held::until_released(files).await?;
    }
    drop(sampling);
    let background = noise::addresses(&cluster);
    let lives = lives.stop().await?;
    progress("the daemon has ended");
    told::keep(&cluster.store, &files.events())?;
    cluster.stop().await;
    Ok(Done { background, lives })
}

/// Reads what the client and the daemons wrote, replays the records, and scores.
fn judge(setup: &Setup, scenario: &Scenario, seed: u64, files: Files, done: &Done) -> Result<Ran> {
    let truth = Truth::read(&files.truth())?;
    times::last_answered(&files.dir, &truth.requests).context("cannot write times.jsonl")?;
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (mut said, mut lost, mut different) = (Printed::default(), 0, Vec::new());
    let mut masquerades = Masquerades::default();
    if scenario.client.via == Via::NodePort {
        for node in 1..=scenario.topology.nodes {
            masquerades.read(&read(files.of(node).translations())?);
        }
    }
    for life in &done.lives {
        let files = &life.files;
        let text = read(files.verdicts())?;
        // Who is killed may have written half a line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut printed = Printed::parse(whole).with_context(|| files.verdicts().display().to_string())?;
        printed.follows(life.before);
        said.add(printed);
        lost += events_lost(&read(files.record())?);
        let again = replay(&setup.binaries.zdt(), &files.record(), "json")?;
        // It had no time to say what its end would have made it say.
        let same = if life.killed {
            again.starts_with(whole)
        } else {
            again == text
        };
        if !same {
            different.push(format!(
                "`zdt replay {}` gives other verdicts than {}",
                files.record().display(),
                files.verdicts().display()
            ));
        }
    }
    let mut claims = said.about_the_workload(&done.background);
    masquerades.undo(&mut claims, &truth.requests);
    let times = Times::read(&files.dir)?;
    let retried = ingress::attribute(&files.dir, &times, &mut claims, &truth.requests)?;
    let mut score = score(&truth.requests, &claims, &said.gaps, &scenario.expect, lost);
    let replayed = different.is_empty();
    score.findings.extend(different);
    score.findings.extend(said.repeated());
    if !scenario.expect.stayed.contains(usize::try_from(said.stayed)?) {
        score.findings.push(format!(
            "{} connections are said to have stayed on the old pods",
            said.stayed
        ));
    }
    if (retried.found as f64) < retried.failed as f64 * scenario.expect.recall {
        score.findings.push(format!(
            "{} of {} attempts that the proxy made good have a verdict",
            retried.found, retried.failed
        ));
    }
    let wrong = told::findings(&said.rollouts, &read(files.events())?)?;
    score.findings.extend(wrong);
    let stages = stages::errors(&said.propagations, &times, &truth.requests);
    score.findings.extend(late_stages(scenario, &stages));
    Ok(Ran {
        name: scenario.name.clone(),
        seed,
        score,
        stages,
        rollouts: said.rollouts,
        replayed,
        files,
    })
}

/// Stages that the scenario judges and that were too far from what the lab did.
fn late_stages<'a>(scenario: &'a Scenario, errors: &'a stages::Errors) -> impl Iterator<Item = String> + 'a {
    let limit = scenario.expect.stages_within_ms;
    errors.iter().filter_map(move |(stage, errors)| {
        let (limit, p95) = (limit?, stages::p95(errors)?);
        (p95 > limit).then(|| {
            format!(
                "stage {stage}: {p95:.1} ms from what the lab did (p95 of {}), allowed {limit} ms",
                errors.len()
            )
        })
    })
}
