//! Asks conntrack the questions that came, each at its time, and sends the answers to the correlator.

use std::{
    collections::BTreeSet,
    future::{Future, pending},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::sleep,
};

use super::{Lost, later::Later, questions::Question};
use crate::{
    clock,
    input::{Input, Pinned, What},
    netfilter::{
        conntrack::{Error, Lookup},
        counters::Counters,
        dump::Counter,
    },
};

/// Questions that may wait to be taken up.
pub(super) const QUESTIONS: usize = 4_096;

/// Look-ups without a pause: one takes some 20 µs.
const AT_ONCE: usize = 256;

type Dumped = (Counter, Result<Vec<Pinned>, Error>);
type Dumping = Pin<Box<dyn Future<Output = Option<Dumped>> + Send>>;

/// Answers questions. What cannot be asked is counted as lost.
pub(super) struct Conntrack {
    later: Later,
    lookup: Option<Lookup>,
    counters: Option<Counters>,
    /// None: a dump has it.
    counter: Option<Counter>,
    dumping: Option<Dumping>,
    /// Pods for the next dump.
    pinned: BTreeSet<IpAddr>,
    to: mpsc::Sender<Input>,
    lost: Arc<Lost>,
    said: bool,
}

impl Conntrack {
    /// In this network namespace. That conntrack cannot be asked is said by `lookup::Lookups`.
    pub(super) fn open(to: mpsc::Sender<Input>, lost: Arc<Lost>) -> Self {
        Self {
            later: Later::default(),
            lookup: Lookup::open().ok(),
            counters: Counters::open().ok(),
            counter: Some(Counter::default()),
            dumping: None,
            pinned: BTreeSet::new(),
            to,
            lost,
            said: false,
        }
    }

    /// Runs until the stop. Look-ups that are not due by then are not made: too early, they would not tell.
    pub(super) async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut stop: watch::Receiver<()>,
    ) {
        loop {
            let due = self
                .later
                .next()
                .map(|at| at.ms_since(clock::now()).max(0.0) / 1_000.0);
            tokio::select! {
                _ = stop.changed() => return,
                question = questions.recv() => match question {
                    Some(question) => self.take_up(question).await,
                    None => return,
                },
                () = sleep(Duration::from_secs_f64(due.unwrap_or_default())), if due.is_some() => self.look_up().await,
                dumped = ended(&mut self.dumping) => self.dumped(dumped).await,
            }
            self.dump();
        }
    }

    async fn take_up(&mut self, question: Question) {
        match question {
            Question::Opening { at, opening } => {
                if !self.later.seen(at, opening) {
                    self.lost.lookup.fetch_add(1, Relaxed);
                }
            }
            Question::Pinned(ip) => {
                self.pinned.insert(ip);
            }
            Question::Counters { told } => {
                let Some(counters) = &mut self.counters else {
                    return;
                };
                match counters.since_last() {
                    Ok(state) if told => self.send(What::Conntrack(state)).await,
                    Ok(_) => {}
                    Err(error) => {
                        self.lost.counters.fetch_add(1, Relaxed);
                        self.say(&error);
                    }
                }
            }
        }
    }

    async fn look_up(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(opening) = self.later.take(clock::now()) else {
                return;
            };
            let Some(lookup) = &mut self.lookup else {
                self.lost.lookup.fetch_add(1, Relaxed);
                continue;
            };
            match lookup.translation(opening.protocol, opening.orig) {
                Ok(translation) => self.send(What::Translation(translation)).await,
                Err(error) => {
                    self.lost.lookup.fetch_add(1, Relaxed);
                    self.say(&error);
                }
            }
        }
        yield_now().await;
    }

    /// Starts a dump for all pods that wait, where none runs.
    fn dump(&mut self) {
        if self.pinned.is_empty() {
            return;
        }
        let Some(mut counter) = self.counter.take() else {
            return;
        };
        let servers: Vec<IpAddr> = std::mem::take(&mut self.pinned).into_iter().collect();
        self.dumping = Some(Box::pin(super::aside(move || {
            let pinned = counter.pinned(&servers);
            (counter, pinned)
        })));
    }

    async fn dumped(&mut self, dumped: Option<Dumped>) {
        self.dumping = None;
        let (mut counter, pinned) = dumped.unwrap_or_else(|| (Counter::default(), Ok(Vec::new())));
        self.lost.dump.fetch_add(counter.take_cut(), Relaxed);
        self.counter = Some(counter);
        match pinned {
            Ok(pinned) => {
                for pinned in pinned {
                    self.send(What::Pinned(pinned)).await;
                }
            }
            Err(error) => {
                self.lost.dump.fetch_add(1, Relaxed);
                self.say(&error);
            }
        }
    }

    async fn send(&mut self, what: What) {
        // An error is the end of the run.
        let _ = self
            .to
            .send(Input {
                at: clock::now(),
                what,
            })
            .await;
    }

    fn say(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!("conntrack does not answer: {error}; what it was asked is counted as lost");
        }
    }
}

async fn ended(dumping: &mut Option<Dumping>) -> Option<Dumped> {
    match dumping {
        Some(dumping) => dumping.await,
        None => pending().await,
    }
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
