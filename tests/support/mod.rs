//! Reads the fixtures and replays them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use zdt_daemon::{
    correlate::{Correlator, Settings},
    input::Input,
    record::Reader,
    verdict::Output,
};

pub struct Fixture {
    pub cause: String,
    /// File name without its ending.
    pub name: String,
    pub path: PathBuf,
    pub verdicts: PathBuf,
    pub inputs: Vec<Input>,
}

/// Every fixture, sorted by path.
pub fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut all = Vec::new();
    for cause in fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        for path in fs::read_dir(&cause).unwrap().map(|e| e.unwrap().path()) {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let Some(name) = file.strip_suffix(".jsonl").filter(|n| !n.ends_with(".verdicts")) else {
                continue;
            };
            assert!(
                name.starts_with("yes-") || name.starts_with("no-"),
                "{}: yes-… or no-…",
                path.display()
            );
            let reader = Reader::new(BufReader::new(File::open(&path).unwrap())).unwrap();
            all.push(Fixture {
                cause: cause.file_name().unwrap().to_str().unwrap().to_owned(),
                name: name.to_owned(),
                verdicts: path.with_file_name(format!("{name}.verdicts.jsonl")),
                inputs: reader
                    .map(|i| i.unwrap_or_else(|e| panic!("{}: {e}", path.display())))
                    .collect(),
                path,
            });
        }
    }
    assert!(!all.is_empty(), "no fixtures");
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// What the correlator makes of inputs, to their end.
pub fn outputs<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Vec<Output> {
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in inputs {
        correlator.step(input, &mut out);
    }
    correlator.finish(&mut out);
    out
}
