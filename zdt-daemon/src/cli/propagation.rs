//! `zdt propagation`: how long nodes took to let go of ending pods and to take up new ones, from records or outputs.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Deserialize;

use super::FINDING;
use crate::{
    config,
    correlate::{Correlator, Settings},
    input::Workload,
    record::Reader,
    report,
    sink::Format,
    verdict::{Output, Propagation},
};

/// What an output begins with; a record begins with its format.
const OUTPUT: &[u8] = br#"{"kind""#;

pub(super) fn propagation(args: &config::Propagation) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for file in &args.files {
        let name = file.display();
        read(file, &mut all).with_context(|| format!("cannot read propagations from {name}"))?;
    }
    all.retain(|p| wanted(args, p));
    if all.is_empty() {
        let of = args.workload.as_deref().unwrap_or("any workload");
        anyhow::bail!(
            "no pod of {of} ended or became Ready in what was read: record while a rollout runs (`zdt record FILE`), or \
             give the outputs of `zdt run -o json`"
        );
    }
    let mut out = io::BufWriter::new(io::stdout());
    match args.output.format {
        Format::Json => {
            for one in &all {
                writeln!(
                    out,
                    "{}",
                    serde_json::to_string(&Output::Propagation(Box::new(one.clone())))?
                )?;
            }
        }
        Format::Text => {
            write!(out, "{}", report::propagation_table(&all))?;
            for line in report::propagation_advice(&all) {
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()?;
    let early = report::stopped_before_rules(&all).is_some_and(|gap_ms| gap_ms > 0.0);
    Ok(if early {
        ExitCode::from(FINDING)
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether it is of the namespace and workload that were asked for: `web`, or `deployment/web`.
fn wanted(args: &config::Propagation, p: &Propagation) -> bool {
    let named = |asked: &str, workload: &Workload| match asked.split_once('/') {
        Some((kind, name)) => workload.kind == kind && workload.name == name,
        None => workload.name == asked,
    };
    args.namespace.as_ref().is_none_or(|n| *n == p.namespace)
        && args
            .workload
            .as_ref()
            .is_none_or(|asked| p.workload.as_ref().is_some_and(|w| named(asked, w)))
}

/// Adds what one file tells: a record is replayed, of outputs the propagations are taken.
fn read(path: &Path, all: &mut Vec<Propagation>) -> anyhow::Result<()> {
    let mut from: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(1 << 16, File::open(path)?))
    };
    if from.fill_buf()?.starts_with(OUTPUT) {
        return outputs(from, all);
    }
    let mut correlator = Correlator::new(Settings::default());
    let mut said = Vec::new();
    let mut take = |said: &mut Vec<Output>| {
        all.extend(said.drain(..).filter_map(|output| match output {
            Output::Propagation(p) => Some(*p),
            _ => None,
        }));
    };
    let mut defect = None;
    for input in Reader::new(from)? {
        match input {
            Ok(input) => correlator.step(&input, &mut said),
            Err(error) => defect = Some(error),
        }
        take(&mut said);
    }
    correlator.finish(&mut said);
    take(&mut said);
    defect.map_or(Ok(()), |error| Err(error.into()))
}

/// An output of any kind.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

fn outputs(from: impl BufRead, all: &mut Vec<Propagation>) -> anyhow::Result<()> {
    for (n, line) in from.lines().enumerate() {
        let line = line?;
        let of = || format!("line {} is not an output of `zdt run -o json`", n + 1);
        let kind: Kind = serde_json::from_str(&line).with_context(of)?;
        if kind.kind == "propagation" {
            all.push(serde_json::from_str(&line).with_context(of)?);
        }
    }
    Ok(())
}
