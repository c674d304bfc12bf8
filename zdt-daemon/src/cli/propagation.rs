//! `zdt propagation`: how long nodes took to let go of ending pods and to take up new ones, from records or outputs.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::{FINDING, read};
use crate::{
    config,
    input::Workload,
    report,
    sink::Format,
    verdict::{Output, Propagation},
};

pub(super) fn propagation(args: &config::Propagation) -> anyhow::Result<ExitCode> {
    let told = read::all_told(&args.sources)?;
    let propagations = told.into_iter().filter_map(|output| match output {
        Output::Propagation(p) => Some(*p),
        _ => None,
    });
    let mut all: Vec<Propagation> = propagations.collect();
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
                    report::json(&Output::Propagation(Box::new(one.clone())))?
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
