//! The binaries of a suite, kept as they are while it runs: a build in the meantime replaces the files in target/, and
//! containers that start later would run another program, or none.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

/// Links to both binaries; removed with it.
#[derive(Debug)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Takes `zdt` and the running `zdt-lab` into a folder of `out`.
    pub fn keep(zdt: &Path, out: &Path) -> Result<Self> {
        let lab = std::env::current_exe().context("the path of zdt-lab is unknown")?;
        let dir = out.join(format!("bin-{}", process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let kept = Self {
            dir: dir.canonicalize()?,
        };
        keep(zdt, &kept.zdt())
            .with_context(|| format!("no daemon at {}: cargo xtask build makes it", zdt.display()))?;
        keep(&lab, &kept.lab())?;
        Ok(kept)
    }

    pub fn zdt(&self) -> PathBuf {
        self.dir.join("zdt")
    }

    pub fn lab(&self) -> PathBuf {
        self.dir.join("zdt-lab")
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("{} stays: {error}", self.dir.display());
        }
    }
}

/// A second name for the same file, or a copy on another file system.
fn keep(from: &Path, to: &Path) -> Result<()> {
    let from = from.canonicalize()?;
    if fs::hard_link(&from, to).is_err() {
        fs::copy(&from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
