//! What files tell: a record is replayed, outputs of `zdt run -o json` are taken as they are. Without files, what the daemons
//! of the cluster say.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use anyhow::Context as _;

use super::daemons;
use crate::{
    config,
    correlate::{Correlator, Settings},
    record::Reader,
    verdict::{Output, UnderWay},
};

/// What an output begins with; a record begins with its format.
pub(super) const OUTPUT: &[u8] = br#"{"kind""#;

/// Appends what the file tells. On an error what stands before it has been appended. `under_way`: what was not over at the
/// end of a record.
pub(super) fn outputs(
    path: &Path,
    to: &mut Vec<Output>,
    under_way: &mut Vec<UnderWay>,
) -> anyhow::Result<()> {
    let mut from: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::with_capacity(1 << 16, File::open(path)?))
    };
    if from.fill_buf()?.starts_with(OUTPUT) {
        for (n, line) in from.lines().enumerate() {
            let output = serde_json::from_str(&line?);
            to.push(output.with_context(|| format!("line {} is not an output of `zdt run -o json`", n + 1))?);
        }
        return Ok(());
    }
    let mut correlator = Correlator::new(Settings::default());
    let mut defect = None;
    for input in Reader::new(from)? {
        match input {
            Ok(input) => correlator.step(&input, to),
            Err(error) => defect = Some(error),
        }
    }
    under_way.extend(correlator.under_way());
    correlator.finish(to);
    defect.map_or(Ok(()), |error| Err(error.into()))
}

/// The same, where a part that is missing would be a wrong answer: an error.
pub(super) fn all_told(sources: &config::Sources) -> anyhow::Result<Vec<Output>> {
    if sources.files.is_empty() {
        return daemons::told(sources, None);
    }
    let mut told = Vec::new();
    for file in &sources.files {
        let read = outputs(file, &mut told, &mut Vec::new());
        read.with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(told)
}

/// What the sources tell. A record that is cut off says what it says, and a warning.
pub(super) fn told(
    sources: &config::Sources,
    since: Option<jiff::SignedDuration>,
) -> anyhow::Result<Vec<Output>> {
    if sources.files.is_empty() {
        return daemons::told(sources, since);
    }
    let mut told = Vec::new();
    for file in &sources.files {
        let name = file.display();
        let before = told.len();
        if let Err(error) = outputs(file, &mut told, &mut Vec::new()) {
            if told.len() == before {
                return Err(error.context(format!("cannot read {name}")));
            }
            tracing::warn!("a part of {name} is missing in this: {error:#}");
        }
    }
    Ok(told)
}
