//! `zdt explain`: the whole evidence of one failed request.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use super::read;
use crate::{
    config,
    report::{Style, explanation},
    verdict::{Output, Verdict},
};

pub(super) fn explain(args: &config::Explain) -> anyhow::Result<ExitCode> {
    let verdicts: Vec<Verdict> = read::told(&args.sources, None)?
        .into_iter()
        .filter_map(|output| match output {
            Output::Verdict(v) => Some(*v),
            _ => None,
        })
        .collect();
    let whole: Vec<&Verdict> = verdicts.iter().filter(|v| v.id == args.verdict).collect();
    let found = if whole.is_empty() {
        verdicts.iter().filter(|v| v.id.contains(&args.verdict)).collect()
    } else {
        whole
    };
    let Some(first) = found.first() else {
        anyhow::bail!(
            "none of the {} verdicts that were read has the id {}: `zdt report --format json` and `zdt replay -o json` \
             have the ids",
            verdicts.len(),
            args.verdict
        )
    };
    if let Some(second) = found.iter().find(|v| v.id != first.id) {
        anyhow::bail!(
            "{} verdicts have {} in their ids (as {} and {}): give one of them whole",
            found.len(),
            args.verdict,
            first.id,
            second.id
        )
    }
    let mut out = io::BufWriter::new(io::stdout());
    let colour = io::stdout().is_terminal();
    // Several nodes may have judged the same connection.
    for verdict in found {
        write!(out, "{}", explanation(verdict, Style { colour }))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
