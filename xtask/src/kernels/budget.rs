//! What the verifier went through for each program when it was last looked at: it may not grow unnoticed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::report::Row;
use crate::layout;

/// By kernel, by program. A kernel that is newer than the one that was looked at has a verifier of its own, and none here.
#[derive(Debug, Default)]
pub struct Budget(pub(super) BTreeMap<String, BTreeMap<String, u64>>);

/// Growth that is not worth a look.
const SLACK_PERCENT: u64 = 10;

impl Budget {
    fn path() -> PathBuf {
        layout::root().join("tests/kernels/verifier.json")
    }

    pub fn read() -> Result<Self> {
        let path = Self::path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let all = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self(all))
    }

    pub fn write(&self) -> Result<()> {
        fs::write(Self::path(), serde_json::to_string_pretty(&self.0)? + "\n")?;
        Ok(())
    }

    pub fn take(&mut self, row: &Row) {
        let of = row
            .hooks
            .iter()
            .filter_map(|h| Some((h.hook.clone(), h.verified?)));
        let of: BTreeMap<String, u64> = of.collect();
        let series = format!("{}.", row.series);
        self.0.retain(|release, _| !release.starts_with(&series));
        // Before 5.16 the kernel does not tell.
        if !of.is_empty() {
            self.0.insert(row.release.clone(), of);
        }
    }

    pub fn complaints(&self, row: &Row) -> Vec<String> {
        let Some(budget) = self.0.get(&row.release) else {
            return Vec::new();
        };
        let grown = row.hooks.iter().filter_map(|hook| {
            let (now, was) = (hook.verified?, *budget.get(&hook.hook)?);
            let most = was + was * SLACK_PERCENT / 100;
            (now > most).then(|| {
                format!(
                    "{}: the verifier needs {now} instructions, it was {was}; `cargo xtask kernels --bless` if that is meant",
                    hook.hook
                )
            })
        });
        grown.collect()
    }
}
