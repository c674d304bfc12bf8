//! Runs one scenario: cluster, daemon, client, actions; then the score of what the daemon said against what the client saw.

mod actions;
mod binaries;
mod cluster;
mod daemon;
mod manifest;
mod objects;
mod scrape;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    net::{Slot, fitting},
    scenario::Scenario,
    score::{Printed, Score, score},
    truth::Truth,
};
use actions::Operator;
pub use binaries::Binaries;
use cluster::Cluster;
use daemon::{Daemon, events_lost};
pub use daemon::{Files, replay};
use objects::CLIENT;

/// The daemon judges a flow 2 s after its end (`judge_grace_ms`), with ticks of 0.25 s.
const JUDGING_GRACE: Duration = Duration::from_millis(2_500);

/// What to run with.
#[derive(Debug)]
pub struct Setup {
    pub binaries: Binaries,
    /// Keep what `/metrics` says after the rollout.
    pub scrape: bool,
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
    /// The daemon's rollout summaries.
    pub rollouts: Vec<serde_json::Value>,
    /// The record gave the same verdicts.
    pub replayed: bool,
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
    done?;
    judge(setup, scenario, seed, files)
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
    Ok(Files { dir })
}

async fn live(setup: &Setup, scenario: &Scenario, seed: u64, files: &Files) -> Result<()> {
    let slot = Slot::take(setup.jobs.max(fitting())).await?;
    let began = Instant::now();
    let progress = |what: &str| {
        tracing::info!(
            "{:>5.1} s  {} (seed {seed}): {what}",
            began.elapsed().as_secs_f64(),
            scenario.name
        );
    };
    let cluster = Cluster::start(slot, scenario, seed, setup.binaries.lab(), &files.dir).await?;
    let mut operator = Operator::new(scenario);
    cluster.deploy(&operator).await?;
    progress("pods are Ready, rules are programmed");
    let daemon = Daemon::start(&cluster.node, &setup.binaries.zdt(), &cluster.kubeconfig, files).await?;
    progress("the daemon is ready");
    let target = cluster.target()?;
    let client = objects::client(scenario, cluster.node.name(), target, seed, &files.truth());
    cluster.store.create::<Pod>(client)?;
    let running = || cluster.client_phase().is_some_and(|p| p != "Pending");
    cluster
        .until("the client's start", Duration::from_secs(30), running)
        .await?;
    progress(&format!(
        "the client sends {} requests a second to {target}",
        scenario.client.rate
    ));
    let start = Instant::now();
    for (n, action) in scenario.actions.iter().enumerate() {
        sleep_until(start + Duration::from_millis(action.at_ms)).await;
        operator.act(&cluster.store, &cluster.node, action, n).await?;
        progress(&action.what.to_string());
    }
    client_ended(&cluster, scenario).await?;
    progress("the client has ended");
    cluster.settled(&operator).await?;
    sleep(JUDGING_GRACE).await;
    if setup.scrape {
        std::fs::write(files.metrics(), scrape::summed_up(&cluster.node).await?)?;
        progress("the daemon's metrics have the rollout");
    }
    daemon.stop().await?;
    progress("the daemon has ended");
    cluster.stop().await;
    Ok(())
}

/// Waits until the client's pod has ended well.
async fn client_ended(cluster: &Cluster, scenario: &Scenario) -> Result<()> {
    let limit = Duration::from_secs_f64(scenario.client.seconds)
        + Duration::from_millis(scenario.client.timeout_ms)
        + Duration::from_secs(30);
    let ended = || {
        cluster
            .client_phase()
            .is_some_and(|p| p == "Succeeded" || p == "Failed")
    };
    cluster.until("the client's end", limit, ended).await?;
    if cluster.client_phase().as_deref() == Some("Failed") {
        bail!("the load client failed; its log is {CLIENT}.{CLIENT}.log in the run's folder");
    }
    Ok(())
}

/// Reads what the client and the daemon wrote, replays the record, and scores.
fn judge(setup: &Setup, scenario: &Scenario, seed: u64, files: Files) -> Result<Ran> {
    let truth = Truth::read(&files.truth())?;
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let text = read(files.verdicts())?;
    let printed = Printed::parse(&text).with_context(|| files.verdicts().display().to_string())?;
    let lost = events_lost(&read(files.record())?);
    let replayed = replay(&setup.binaries.zdt(), &files.record(), "json")? == text;
    let mut score = score(&truth.requests, &printed.claims, &scenario.expect, lost);
    if !replayed {
        score.findings.push(format!(
            "`zdt replay {}` gives other verdicts than {}",
            files.record().display(),
            files.verdicts().display()
        ));
    }
    Ok(Ran {
        name: scenario.name.clone(),
        seed,
        score,
        rollouts: printed.rollouts,
        replayed,
        files,
    })
}
