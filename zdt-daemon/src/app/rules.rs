//! Follows the node's rules: nf_tables by its notifications, legacy tables by a read when the kernel half saw one replaced.

use std::{
    collections::BTreeSet,
    future::pending,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::sleep,
};

use super::Lost;
use crate::{
    clock,
    input::{Input, Ktime, NetnsInum, Observation, Route, RouteChange, RulesState, What},
    netfilter::{
        iptables::{Error as LegacyError, LegacyTables, Pending},
        losses::{Counts, Loss},
        nftables::Watcher,
        ruleset::Generation,
    },
};

/// A dump that failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Losses since they were told last, by kind.
#[derive(Debug, Default)]
pub(super) struct LostRules(Mutex<Counts>);

impl LostRules {
    pub(super) fn add(&self, loss: Loss, count: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(loss, count);
    }

    pub(super) fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Both kinds of rules of this network namespace, as far as they can be read.
pub(super) struct Rules {
    nft: Option<(Watcher, AsyncFd<OwnedFd>)>,
    legacy: Option<LegacyTables>,
    pending: Pending,
    first: Option<Input>,
    /// What could not be read at all, and what was told of all losses.
    unread: Counts,
    told: (Counts, Counts, Counts),
}

impl Rules {
    /// Reads what is there. What cannot be read is said once, with what it costs. Takes as long as reading the rules.
    pub(super) fn open() -> Self {
        let mut added: BTreeSet<Route> = BTreeSet::new();
        let nft = match Watcher::open() {
            Ok(watcher) => {
                added.extend(watcher.routes().iter());
                wakeup(&watcher).map(|fd| (watcher, fd))
            }
            Err(error) => {
                blind("nf_tables", &error);
                None
            }
        };
        let legacy = LegacyTables::open().and_then(|mut tables| {
            let known = tables.read(clock::now(), None)?;
            added.extend(known.into_iter().flat_map(|g| g.change.added));
            Ok(tables)
        });
        let legacy = legacy.inspect_err(|error| blind("legacy iptables", error)).ok();
        let first = (nft.is_some() || legacy.is_some()).then(|| Input {
            at: clock::now(),
            what: What::Rules(RulesState {
                backend: None,
                generation: None,
                by: None,
                change: RouteChange {
                    added: added.into_iter().collect(),
                    removed: Vec::new(),
                },
                resynced: false,
                first: true,
            }),
        });
        Self {
            nft,
            legacy,
            pending: Pending::default(),
            first,
            unread: Counts::default(),
            told: <_>::default(),
        }
    }

    /// The routes that were there at the start.
    pub(super) fn first(&mut self) -> Option<Input> {
        self.first.take()
    }

    /// Adds what was lost since the last call to what the next tick tells.
    fn count(&mut self, lost: &Lost) {
        let mut own = self.unread;
        own.add(Loss::Shared, self.pending.shared());
        let (of_nft, of_legacy, of_own) = &mut self.told;
        let nft = self
            .nft
            .as_ref()
            .map(|(watcher, _)| of_nft.grown(watcher.losses().counts()));
        let legacy = self
            .legacy
            .as_ref()
            .map(|tables| of_legacy.grown(tables.counts()));
        let grown = nft.into_iter().chain(legacy).chain([of_own.grown(own)]);
        for (loss, count) in grown.flatten() {
            lost.rules.add(loss, count);
        }
    }

    /// Runs until nobody takes inputs any more. `replaced`: what the kernel half saw of legacy tables.
    pub(super) async fn follow(
        mut self,
        mut replaced: mpsc::Receiver<(Ktime, Observation)>,
        to: mpsc::Sender<Input>,
        lost: &Lost,
    ) {
        let mut again = false;
        self.count(lost);
        loop {
            let due = self
                .pending
                .due()
                .map(|at| at.ms_since(clock::now()).max(0.0) / 1_000.0);
            tokio::select! {
                () = readable(self.nft.as_ref()) => {}
                () = sleep(AGAIN), if again => {}
                Some((at, observation)) = replaced.recv() => {
                    self.pending.observe(at, &observation);
                    continue;
                }
                () = sleep(Duration::from_secs_f64(due.unwrap_or_default())), if due.is_some() => {}
            }
            again = false;
            let mut generations = Vec::new();
            if let Some((watcher, _)) = &mut self.nft {
                match watcher.next_generations(clock::now()) {
                    Ok(new) => generations.extend(new),
                    Err(error) => {
                        again = true;
                        self.unread.add(Loss::Unreadable, 1);
                        tracing::warn!("the rules cannot be read: {error}; trying again");
                    }
                }
            }
            while let Some(read) = self.pending.take(clock::now()) {
                let Some(mut tables) = self.legacy.take() else {
                    continue;
                };
                // A large table takes some 100 ms.
                let done = super::aside(move || {
                    let generation = tables.read_one(read);
                    (tables, generation)
                });
                let Some((tables, generation)) = done.await else {
                    return;
                };
                self.legacy = Some(tables);
                match generation {
                    Ok(new) => generations.extend(new),
                    Err(error) => {
                        self.unread.add(why(&error), 1);
                        tracing::warn!("{error}");
                    }
                }
            }
            self.count(lost);
            for generation in generations {
                if to.send(input(generation)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a failed read of a legacy table is.
fn why(error: &LegacyError) -> Loss {
    match error {
        LegacyError::TooLarge { .. } => Loss::TooLarge,
        _ => Loss::Unreadable,
    }
}

/// Whether a kernel event is about this namespace's legacy tables.
pub(super) fn concerns(observation: &Observation, own: NetnsInum) -> bool {
    matches!(observation, Observation::TableReplaced { netns, .. } if *netns == own || netns.0 == 0)
}

fn input(generation: Generation) -> Input {
    Input {
        at: generation.at,
        what: What::Rules(RulesState {
            backend: Some(generation.backend),
            generation: generation.generation,
            by: generation.by,
            change: generation.change,
            resynced: generation.resynced,
            first: false,
        }),
    }
}

async fn readable(nft: Option<&(Watcher, AsyncFd<OwnedFd>)>) {
    match nft {
        Some((_, fd)) => match fd.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

fn blind(what: &str, error: &dyn std::error::Error) {
    tracing::warn!(
        "the rules of {what} are not followed: {error}; zdt does not learn from them when this node let go of a pod"
    );
}

#[expect(
    unsafe_code,
    reason = "registering a file descriptor with epoll is unsafe in tokio"
)]
fn wakeup(watcher: &Watcher) -> Option<AsyncFd<OwnedFd>> {
    let fd = watcher.as_fd().as_fd().try_clone_to_owned().ok()?;
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_taken_once_and_keep_their_kind() {
        let lost = LostRules::default();
        lost.add(Loss::Overrun, 2);
        lost.add(Loss::Overrun, 1);
        lost.add(Loss::Odd, 1);
        let taken = lost.take();
        assert_eq!((taken.of(Loss::Overrun), taken.of(Loss::Odd)), (3, 1));
        assert_eq!(lost.take(), Counts::default());
    }

    #[test]
    fn a_table_that_is_too_large_is_told_from_one_that_cannot_be_read() {
        let family = crate::netfilter::iptables::Family::V4;
        let (bytes, limit) = (2, 1);
        assert_eq!(
            why(&LegacyError::TooLarge { family, bytes, limit }),
            Loss::TooLarge
        );
        assert_eq!(why(&LegacyError::Unstable { family }), Loss::Unreadable);
    }
}
