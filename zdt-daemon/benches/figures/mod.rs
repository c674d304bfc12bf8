//! Figures of a benchmark: a median with its spread, as a table for people or as one JSON object.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::path::PathBuf;

use serde_json::{Value, json};

/// What was measured, several times.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `share` of all do not exceed; NaN where there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let sorted = self.sorted();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of the list"
        )]
        let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// Least and greatest.
    pub fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(sorted.first()), end(sorted.last()))
    }

    pub fn text(&self, digits: usize) -> String {
        let (least, greatest) = self.spread();
        format!(
            "{:.digits$} [{least:.digits$} .. {greatest:.digits$}]",
            self.median()
        )
    }

    fn json(&self) -> Value {
        let (least, greatest) = self.spread();
        json!({"median": self.median(), "min": least, "max": greatest, "runs": self.0.len()})
    }
}

impl Extend<f64> for Figures {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A column: its name with the unit, and how many digits behind the point.
pub type Column = (&'static str, usize);

/// Rows of figures under common columns.
pub struct Table {
    name: String,
    columns: Vec<Column>,
    rows: Vec<(String, Vec<Figures>)>,
}

impl Table {
    pub fn new(name: impl Into<String>, columns: &[Column]) -> Self {
        Self {
            name: name.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, name: impl Into<String>, figures: Vec<Figures>) {
        assert_eq!(figures.len(), self.columns.len());
        self.rows.push((name.into(), figures));
    }

    pub fn text(&self) -> String {
        let head = std::iter::once(format!("{} (median [least .. greatest])", self.name));
        let head: Vec<String> = head
            .chain(self.columns.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        let mut lines = vec![head];
        for (name, figures) in &self.rows {
            let cells = figures
                .iter()
                .zip(&self.columns)
                .map(|(f, (_, digits))| f.text(*digits));
            lines.push(std::iter::once(name.clone()).chain(cells).collect());
        }
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|at| {
                lines
                    .iter()
                    .map(|line| line[at].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let pad = |line: &Vec<String>| {
            let cells: Vec<_> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        lines.iter().map(pad).collect::<Vec<_>>().join("\n")
    }

    pub fn json(&self) -> Value {
        let row = |(name, figures): &(String, Vec<Figures>)| {
            let cells = figures
                .iter()
                .zip(&self.columns)
                .map(|(f, (column, _))| ((*column).to_owned(), f.json()));
            let mut object: serde_json::Map<String, Value> = cells.collect();
            object.insert("what".into(), json!(name));
            Value::Object(object)
        };
        json!({"table": self.name, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

/// What cargo and the developer pass.
pub struct Args {
    pub json: bool,
    pub rounds: usize,
    /// So many times smaller than what is meant, to try the benchmark itself.
    pub shrink: usize,
    /// A short run, whose figures are rough.
    pub quick: bool,
    /// One part alone.
    pub only: Option<String>,
    /// Where the plot goes.
    pub plot: Option<PathBuf>,
}

impl Args {
    /// What `cargo xtask bench` passes on; cargo's own `--bench` is no argument of ours.
    pub fn read(rounds: usize) -> Self {
        let mut args = Self {
            json: false,
            rounds,
            shrink: 1,
            quick: false,
            only: None,
            plot: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
            match word.as_str() {
                "--bench" => {}
                "--json" => args.json = true,
                "--quick" => args.quick = true,
                "--rounds" => args.rounds = number(next()),
                "--shrink" => args.shrink = number(next()),
                "--only" => args.only = Some(next()),
                "--plot" => args.plot = Some(next().into()),
                other => panic!("unknown argument {other}: see `cargo xtask bench --help`"),
            }
        }
        args
    }

    /// All tables, at the end.
    pub fn print(&self, method: &str, tables: &[Table]) {
        if self.json {
            let tables: Vec<_> = tables.iter().map(Table::json).collect();
            println!("{}", json!({"method": method, "tables": tables}));
            return;
        }
        println!("{method}\n");
        for table in tables {
            println!("{}\n", table.text());
        }
    }
}
