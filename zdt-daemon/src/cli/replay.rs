//! `zdt replay FILE`: the same inputs give the same verdicts, byte for byte.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;

use super::stdout;
use crate::{config, pipe::Pipe, record::Reader};

pub(super) fn replay(args: &config::Replay) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let from: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot open the record {name}"))?;
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let inputs = Reader::new(from).with_context(|| format!("cannot replay {name}"))?;
    let mut pipe = Pipe::new(None, Some(Box::new(stdout(&args.output))));
    let mut defect = None;
    for input in inputs {
        match input {
            Ok(input) => pipe.step(&input)?,
            Err(error) => defect = Some(error),
        }
    }
    pipe.finish()?;
    match defect {
        Some(error) => Err(error).with_context(|| format!("cannot replay all of {name}")),
        None => Ok(ExitCode::SUCCESS),
    }
}
