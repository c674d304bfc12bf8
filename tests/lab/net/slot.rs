//! Which worlds run on this machine: each holds one slot, and with it the addresses that no other world has.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    addresses::{Addresses, SLOTS},
    run::{RunError, require_root},
};

/// One lock file for each slot, and one for those who wait. A lock goes with its file descriptor, also after `kill -9`.
const SLOT_DIR: &str = "/run/zdt-lab.slots";

/// How often a waiting world looks again: flock(2) cannot wait for one of several files.
const AGAIN: Duration = Duration::from_millis(50);

/// A slot of this machine, free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    addresses: Addresses,
    _lock: File,
}

impl Slot {
    /// Takes a free one of the first `most` slots (at least one, at most [`SLOTS`]); waits while all are taken, behind
    /// those who wait already.
    pub async fn take(most: u8) -> Result<Self, RunError> {
        require_root()?;
        Self::take_in(Path::new(SLOT_DIR), most).await
    }

    async fn take_in(dir: &Path, most: u8) -> Result<Self, RunError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Slot { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let path = dir.join("queue");
        let mut told = false;
        // Whoever has the queue takes the next free slot: a suite that gives a slot back and wants the next one at once
        // would else leave nothing to the others.
        let _queue = loop {
            match lock(&path).map_err(failed(&path))? {
                Some(lock) => break lock,
                None => wait(&mut told).await,
            }
        };
        loop {
            for slot in 0..most.clamp(1, SLOTS) {
                let path: PathBuf = dir.join(slot.to_string());
                let lock = lock(&path).map_err(failed(&path))?;
                if let (Some(lock), Some(addresses)) = (lock, Addresses::of(slot)) {
                    return Ok(Self {
                        addresses,
                        _lock: lock,
                    });
                }
            }
            wait(&mut told).await;
        }
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

async fn wait(told: &mut bool) {
    if !*told {
        tracing::info!("other labs run on this machine: waiting for a slot");
        *told = true;
    }
    tokio::time::sleep(AGAIN).await;
}

/// None: somebody has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::create(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// As many worlds as CPUs: with more, the load clients come late and the run does not count.
pub fn fitting() -> u8 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u8::try_from(cpus).unwrap_or(SLOTS).min(SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_is_taken_once_and_is_free_again_when_it_is_dropped() {
        let dir = std::env::temp_dir().join(format!("zdt-slots-{}", std::process::id()));
        let take = || Slot::take_in(&dir, 2);
        let first = take().await.unwrap();
        let second = take().await.unwrap();
        assert_ne!(first.addresses(), second.addresses());
        let waiting = tokio::time::timeout(3 * AGAIN, take()).await;
        assert!(waiting.is_err(), "only two slots were asked for");
        let was = first.addresses();
        let (third, ()) = tokio::join!(take(), async { drop(first) });
        assert_eq!(third.unwrap().addresses(), was);
        fs::remove_dir_all(&dir).unwrap();
    }
}
