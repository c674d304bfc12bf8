//! `zdt report`: what a rollout broke, why, and what to change, from records or outputs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{FINDING, read};
use crate::{
    config::{self, ReportFormat},
    report::{self, Report, Style, Wanted},
};

pub(super) fn report(args: &config::Report) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        namespace: args.namespace.clone(),
        workload: args.workload.clone(),
        since_ms: args
            .since
            .map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
    };
    let told = Report::of(read::told(&args.sources, args.since)?, &wanted);
    let mut out = io::BufWriter::new(io::stdout());
    if args.patch {
        out.write_all(patch(&told)?.as_bytes())?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    if told.is_empty() {
        let of = args.workload.as_deref().unwrap_or("any workload");
        anyhow::bail!(
            "no pod of {of} ended and no request failed in what was read: record while a rollout runs (`zdt record \
             FILE`), or give the outputs of `zdt run -o json`"
        );
    }
    let text = match args.format {
        ReportFormat::Text => {
            let colour = io::stdout().is_terminal();
            report::screen(&told, Style { colour })
        }
        ReportFormat::Json => report::json(&told)? + "\n",
        ReportFormat::Markdown => report::markdown(&told),
        ReportFormat::Html => report::html(&told),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(if told.failed() > 0 {
        ExitCode::from(FINDING)
    } else {
        ExitCode::SUCCESS
    })
}

/// The newest patch; of one workload only, since `kubectl patch` takes one object.
fn patch(told: &Report) -> anyhow::Result<&str> {
    let patches = || told.rollouts.iter().filter(|s| s.patch.is_some());
    let last = patches().next_back().context(
        "nothing to patch: no failed request asks for a setting of the pod template (`zdt report` without --patch says \
         what to do)",
    )?;
    let key = |s: &report::Story| (s.rollout.namespace.clone(), s.rollout.workload.clone());
    if patches().any(|s| key(s) != key(last)) {
        anyhow::bail!(
            "there are patches for several workloads: name one, as `zdt report -n NS deployment/NAME --patch`"
        );
    }
    Ok(last.patch.as_deref().unwrap_or_default())
}
