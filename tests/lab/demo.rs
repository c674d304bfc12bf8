//! `zdt-lab demo`: a rollout that loses requests, the daemon's report, and the same rollout with the setting it advises.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    advice::{SETTING, advised, with},
    run::{Ran, Setup, replay, run},
    scenario::Scenario,
    score::Counts,
    suite::{Place, code},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    /// Decides delays, names and the client's timing
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The scenario
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

pub fn demo(args: &Args) -> Result<ExitCode> {
    let mut scenario = Scenario::read(&args.file)?;
    // One story on the screen.
    scenario.noise = false;
    let setup = args.place.setup()?;
    println!(
        "$ a rolling update of {} pods, {} requests a second\n",
        scenario.workload.replicas, scenario.client.rate
    );
    let first = run(&setup, &scenario, args.seed)?;
    report(&setup, &first)?;
    println!(
        "\nscore against what the client saw: {}",
        line(&first.score.counts)
    );
    misses(&first);
    let Some(seconds) = advised(&first) else {
        bail!(
            "the report advises no {SETTING}: see {}",
            first.files.verdicts().display()
        );
    };
    println!("\n$ the same rolling update with {SETTING}: {seconds}\n");
    let second = run(&setup, &with(&scenario, seconds), args.seed)?;
    report(&setup, &second)?;
    println!(
        "\nscore against what the client saw: {}",
        line(&second.score.counts)
    );
    misses(&second);
    println!("\nrecords and ground truth: {}", setup.out.display());
    for (ran, which) in [(&first, "the first"), (&second, "the second")] {
        let page = ran.files.record().with_file_name("report.html");
        fs::write(&page, reported(&setup, ran, "html")?)
            .with_context(|| format!("cannot write {}", page.display()))?;
        println!("{which} report as a page: {}", page.display());
    }
    Ok(code(&[first, second]))
}

/// Verdicts shown before the summary; all are one command away.
const SHOWN: usize = 5;

/// The first few verdicts, as the daemon said them, and its report.
fn report(setup: &Setup, ran: &Ran) -> Result<()> {
    let record = ran.files.record();
    let said = replay(&setup.binaries.zdt(), &record, "text")?;
    let summary = said.find("\nrollout ").unwrap_or(said.len());
    let (verdicts, _) = said.split_at(summary);
    let lines: Vec<&str> = verdicts.lines().filter(|l| !l.is_empty()).collect();
    for line in lines.iter().take(SHOWN) {
        println!("{line}");
    }
    if lines.len() > SHOWN {
        println!(
            "... {} more: zdt replay {}",
            lines.len() - SHOWN,
            record.display()
        );
    }
    let record = record.display();
    println!(
        "\n$ zdt report --record {record}\n\n{}",
        reported(setup, ran, "text")?.trim_end()
    );
    Ok(())
}

/// `zdt report`. It exits with 1 where requests failed.
fn reported(setup: &Setup, ran: &Ran, format: &str) -> Result<String> {
    let zdt = setup.binaries.zdt();
    let output = Command::new(&zdt)
        .args(["report", "--format", format, "--record"])
        .arg(ran.files.record())
        .output()
        .with_context(|| format!("cannot start {}", zdt.display()))?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!(
            "`zdt report` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn misses(ran: &Ran) {
    for finding in &ran.score.findings {
        println!("MISSED: {finding}");
    }
}

fn line(c: &Counts) -> String {
    format!(
        "{} of {} requests failed, {} verdicts; recall {:.4}, precision {:.4}, cause accuracy {:.4}, unexplained {}, events lost {}",
        c.failed,
        c.requests,
        c.verdicts,
        c.recall(),
        c.precision(),
        c.cause_accuracy(),
        c.unexplained,
        c.events_lost
    )
}
