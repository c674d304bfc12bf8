//! `zdt-lab soak`: rollout after rollout under load beside one daemon. What it takes must not grow, and its score not drop.

mod flat;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::{
    net::require_root,
    run::{Binaries, Ran, Sample, Setup, run},
    scenario::{Action, Scenario, Step},
    score::{Counts, Printed, score},
    truth::Truth,
};

/// From one rollout to the next: it takes 5 s, and is summed up when nothing has happened for 10 s.
const PERIOD_MS: u64 = 30_000;

/// Between two looks at the daemon.
const EVERY: Duration = Duration::from_secs(5);

/// So much worse may the second half of the rollouts be than the first: one request of a hundred.
const DROP: f64 = 0.01;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The daemon's binary
    #[arg(long, value_name = "FILE")]
    zdt: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    out: PathBuf,
    /// How long
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u32).range(60..))]
    seconds: u32,
    /// Exactly one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn soak(args: &Args) -> Result<ExitCode> {
    require_root()?;
    let setup = Setup {
        binaries: Binaries::keep(&args.zdt, &args.out)?,
        scrape: false,
        prometheus: false,
        hold: false,
        sample: Some(EVERY),
        out: args.out.clone(),
        jobs: 1,
    };
    let scenario = scenario(args.seconds)?;
    let ran = run(&setup, &scenario, 1)?;
    let samples = samples(&ran)?;
    let rollouts = rollouts(&scenario, &ran)?;
    let rows = flat::rows(&samples);
    let mut findings = ran.score.findings.clone();
    findings.extend(rows.iter().filter_map(flat::Row::finding));
    findings.extend(dropped(&rollouts));
    if args.json {
        let object = json!({
            "seconds": args.seconds,
            "rollouts": rollouts.iter().map(|c| json!({
                "failed": c.failed, "recall": c.recall(), "precision": c.precision(),
                "cause_accuracy": c.cause_accuracy(), "unexplained": c.unexplained,
            })).collect::<Vec<_>>(),
            "samples": samples,
            "findings": findings,
        });
        println!("{object}");
    } else {
        print(&samples, &rollouts, &rows, &findings);
    }
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

fn scenario(seconds: u32) -> Result<Scenario> {
    let mut scenario = Scenario::parse("soak.yaml".as_ref(), include_str!("soak.yaml"))?;
    scenario.client.seconds = f64::from(seconds);
    // The last one has its period to its end.
    let rollouts = u64::from(seconds) * 1_000 / PERIOD_MS;
    scenario.actions = (0..rollouts)
        .map(|n| Action {
            at_ms: n * PERIOD_MS + 1_500,
            what: Step::RollingUpdate,
            on: None,
        })
        .collect();
    Ok(scenario)
}

fn samples(ran: &Ran) -> Result<Vec<Sample>> {
    let file = ran.files.samples();
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let samples: Result<Vec<Sample>, _> = text.lines().map(serde_json::from_str).collect();
    let samples = samples?;
    if samples.len() < 4 {
        bail!("{} samples in {}: too few", samples.len(), file.display());
    }
    Ok(samples)
}

/// The score of each rollout: what began in its period.
fn rollouts(scenario: &Scenario, ran: &Ran) -> Result<Vec<Counts>> {
    let mut truth = Truth::read(&ran.files.truth())?.requests;
    truth.sort_by_key(|r| r.began_ns);
    let first = truth.first().context("the client sent nothing")?.began_ns;
    let said = Printed::parse(&fs::read_to_string(ran.files.verdicts())?)?.claims;
    let period = |began: u64| began.saturating_sub(first) / (PERIOD_MS * 1_000_000);
    let scores = (0..scenario.actions.len() as u64).map(|n| {
        let truth: Vec<_> = truth
            .iter()
            .filter(|r| period(r.began_ns) == n)
            .cloned()
            .collect();
        let said: Vec<_> = said.iter().filter(|c| period(c.began) == n).cloned().collect();
        score(&truth, &said, &[], &scenario.expect, 0).counts
    });
    Ok(scores.collect())
}

type Share = fn(&Counts) -> f64;

/// What is worse in the second half of the rollouts.
fn dropped(rollouts: &[Counts]) -> Vec<String> {
    let (first, second) = rollouts.split_at(rollouts.len() / 2);
    let sum = |all: &[Counts]| {
        let mut sum = Counts::default();
        for counts in all {
            sum.add(counts);
        }
        sum
    };
    let (before, after) = (sum(first), sum(second));
    let shares: [(&str, Share); 3] = [
        ("recall", Counts::recall),
        ("precision", Counts::precision),
        ("cause accuracy", Counts::cause_accuracy),
    ];
    let worse = shares
        .into_iter()
        .filter(|(_, of)| of(&after) + DROP < of(&before));
    worse
        .map(|(name, of)| {
            format!(
                "{name} drops from {:.4} in the first half of the rollouts to {:.4} in the second",
                of(&before),
                of(&after)
            )
        })
        .collect()
}

fn print(samples: &[Sample], rollouts: &[Counts], rows: &[flat::Row], findings: &[String]) {
    println!("rollout  failed  verdicts  recall  precision  accuracy  unexplained");
    for (n, c) in rollouts.iter().enumerate() {
        println!(
            "{:>7}  {:>6}  {:>8}  {:>6.3}  {:>9.3}  {:>8.3}  {:>11}",
            n + 1,
            c.failed,
            c.verdicts,
            c.recall(),
            c.precision(),
            c.cause_accuracy(),
            c.unexplained
        );
    }
    println!("\n   at  rss KiB  own KiB  files  threads  entries  kept  evicted  lost");
    // A line a minute is enough to see a slope.
    for s in samples.iter().step_by(12).chain(samples.last()) {
        println!(
            "{:>4.0}s  {:>7}  {:>7}  {:>5}  {:>7}  {:>7}  {:>4}  {:>7}  {:>4}",
            s.at_s,
            s.rss_kib,
            s.anon_kib,
            s.fds,
            s.threads,
            s.tables.values().sum::<u64>(),
            s.kept,
            s.evicted,
            s.lost
        );
    }
    println!("\n{}", flat::HEAD);
    for row in rows {
        println!("{row}");
    }
    println!();
    for finding in findings {
        println!("FINDING {finding}");
    }
    if findings.is_empty() {
        println!("flat, and as right at the end as at the beginning");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(found: usize) -> Counts {
        Counts {
            failed: 20,
            found,
            claims: 20,
            right_claims: 20,
            judged: 20,
            right_causes: 20,
            ..Counts::default()
        }
    }

    #[test]
    fn a_score_that_drops_is_a_finding() {
        let same = [rollout(20), rollout(19), rollout(20), rollout(19)];
        assert_eq!(dropped(&same), Vec::<String>::new());
        let found = dropped(&[rollout(20), rollout(20), rollout(20), rollout(19)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("recall drops from 1.0000"), "{found:?}");
    }

    #[test]
    fn rollouts_fill_the_time_and_the_last_has_room_to_end() {
        let of = |seconds| scenario(seconds).unwrap().actions;
        assert_eq!(of(60).len(), 2);
        assert_eq!(of(1_200).len(), 40);
        assert!(of(1_200).last().unwrap().at_ms <= (1_200_000 - PERIOD_MS) + 1_500);
    }
}
