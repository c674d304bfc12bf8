//! What a file tells: a record is replayed, outputs of `zdt run -o json` are taken as they are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use anyhow::Context as _;

use crate::{
    correlate::{Correlator, Settings},
    record::Reader,
    verdict::{Output, UnderWay},
};

/// What an output begins with; a record begins with its format.
const OUTPUT: &[u8] = br#"{"kind""#;

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

/// What several files tell. A record that is cut off says what it says, and a warning.
pub(super) fn all(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<Output>> {
    let mut told = Vec::new();
    for file in files {
        let name = file.display();
        let before = told.len();
        if let Err(error) = outputs(file, &mut told, &mut Vec::new()) {
            if told.len() == before {
                return Err(error.context(format!("cannot read {name}")));
            }
            tracing::warn!("the report lacks a part of {name}: {error:#}");
        }
    }
    Ok(told)
}
