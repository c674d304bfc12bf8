//! The schema of a scenario: one YAML file that says what runs, what happens to it and what must come out.
//! `tests/scenarios/README.md` is its documentation; a test keeps the two together.

mod action;
mod app;
mod check;
mod client;
mod network;
mod proxy;
mod topology;
mod workload;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::truth::Outcome;
pub use action::{Action, ApiFault, Ending, Manifest, Restart, Step};
pub use app::{App, OnSigterm};
pub use client::{Client, Mode, Place, Via};
pub use network::{Backend, Family, Network};
pub use proxy::{Dials, Proxy, ProxyKind};
pub use topology::{Policy, Service, Topology};
pub use workload::{Beside, Kind, Probe, Sidecar, Strategy, Workload};

/// Why a scenario cannot be used. Each text names the file, the line and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("cannot read the scenario {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: {what}\nthe schema is tests/scenarios/README.md")]
    Schema { path: PathBuf, line: u64, what: String },
    #[error("no scenario (*.yaml) in {0}; the schema is tests/scenarios/README.md")]
    Empty(PathBuf),
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// kebab-case; names the output folder.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub description: String,
    #[serde(default)]
    pub topology: Topology,
    #[serde(default)]
    pub workload: Workload,
    #[serde(default)]
    pub service: Service,
    #[serde(default)]
    pub app: App,
    /// Other workloads of the same namespace.
    #[serde(default)]
    pub beside: Vec<Beside>,
    /// A proxy in front of the workload.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    #[serde(default)]
    pub client: Client,
    #[serde(default)]
    pub network: Network,
    /// Background: a port scanner, clients that hang up, a pod that crashes, healthy connections.
    #[serde(default = "yes")]
    pub noise: bool,
    /// In the order of their times.
    #[serde(default)]
    pub actions: Vec<Action>,
    #[serde(default)]
    pub expect: Expect,
}

/// What must come out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Requests that the client saw fail.
    pub failed: Range,
    /// Causes that are right, and for which outcomes; absent: causes are shown and not judged.
    pub causes: Option<BTreeMap<String, ExpectedCause>>,
    /// Least recall, precision and cause accuracy, 0 to 1.
    pub recall: f64,
    pub precision: f64,
    pub cause_accuracy: f64,
    /// Connections that a switched service's report says stayed on the old pods.
    pub stayed: Range,
    /// `namespace/name` of the workload that every verdict which blames a rollout must be about; absent: not judged.
    pub blamed: Option<String>,
    /// Failed requests that got no verdict, or a wrong cause, and whose gap the daemon had marked; they are counted apart.
    pub marked: Range,
    /// Gaps that the daemons say, but for the time before their first start.
    pub gaps: Range,
    /// The longest of them; absent: not judged.
    pub longest_gap_ms: Option<f64>,
    /// 95th percentile of how far each stage of the propagation may be from what the lab did; absent: shown, not judged.
    pub stages_within_ms: Option<f64>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            failed: Range::default(),
            causes: None,
            recall: 0.99,
            precision: 0.99,
            cause_accuracy: 0.99,
            stayed: Range::default(),
            marked: Range { min: 0, max: Some(0) },
            gaps: Range { min: 0, max: Some(0) },
            longest_gap_ms: None,
            blamed: None,
            stages_within_ms: None,
        }
    }
}

impl Expect {
    /// What a request with this outcome is owed: its only cause, or "a or b" where the scenario allows several. None: the
    /// scenario does not say.
    pub fn owed(&self, outcome: Outcome) -> Option<String> {
        let fits = |c: &ExpectedCause| c.outcomes.is_empty() || c.outcomes.contains(&outcome);
        let causes = self.causes.as_ref()?.iter();
        let fitting: Vec<&str> = causes
            .filter(|(_, c)| fits(c))
            .map(|(name, _)| name.as_str())
            .collect();
        Some(match fitting.as_slice() {
            [] => format!("(none for {})", outcome.name()),
            some => some.join(" or "),
        })
    }

    /// Whether this cause is right for a request with this outcome; None: the scenario does not say.
    pub fn is_right(&self, cause: &str, outcome: Outcome) -> Option<bool> {
        let causes = self.causes.as_ref()?;
        Some(
            causes
                .get(cause)
                .is_some_and(|c| c.outcomes.is_empty() || c.outcomes.contains(&outcome)),
        )
    }
}

/// Bounds of a count, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Range {
    pub min: usize,
    /// Absent: no upper bound.
    pub max: Option<usize>,
}

impl Range {
    pub fn contains(&self, count: usize) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectedCause {
    /// Outcomes that this cause may explain; empty: any.
    pub outcomes: Vec<Outcome>,
    /// Least share of the matched verdicts, 0 to 1.
    pub min_share: f64,
}

fn yes() -> bool {
    true
}

impl Scenario {
    /// Reads and checks one file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Every `*.yaml` of a folder and of the folders in it, in the order of their paths.
    pub fn read_dir(dir: &Path) -> Result<Vec<Self>, ScenarioError> {
        let mut paths = Vec::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            let read = |source| ScenarioError::Read {
                path: folder.clone(),
                source,
            };
            for entry in std::fs::read_dir(&folder).map_err(read)? {
                let path = entry.map_err(read)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                    paths.push(path);
                }
            }
        }
        if paths.is_empty() {
            return Err(ScenarioError::Empty(dir.to_owned()));
        }
        paths.sort();
        paths.iter().map(|p| Self::read(p)).collect()
    }

    /// The same in the other address family; None: it is of that family, or it cannot be.
    pub fn in_family(&self, family: Family) -> Option<Self> {
        let mut other = self.clone();
        other.network.family = family;
        other.name += match family {
            Family::V4 => "-v4",
            Family::V6 => "-v6",
        };
        let possible = self.network.family != family && check::check(&other).is_ok();
        possible.then_some(other)
    }

    /// `path` is for the messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |l| l.line());
            let written = usize::try_from(line)
                .ok()
                .and_then(|n| text.lines().nth(n.saturating_sub(1)));
            ScenarioError::Schema {
                path: path.to_owned(),
                line,
                what: format!(
                    "`{}`: {}",
                    written.unwrap_or_default().trim(),
                    error.without_snippet()
                ),
            }
        })?;
        check::check(&scenario).map_err(|found| ScenarioError::Schema {
            path: path.to_owned(),
            line: check::line_of(text, found.field),
            what: format!("{} is {}; allowed: {}", found.field, found.value, found.allowed),
        })?;
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests;
