//! A whole zdt beside a load: what it says when it starts, and the rollout that its API server tells it of.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::ChildStderr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::api::{Api, Store};

/// Waits for `ready:`, and reads on: whatever it still has to say must not stop it.
pub fn ready(log: ChildStderr) {
    let mut log = BufReader::new(log);
    let (mut line, mut all) = (String::new(), String::new());
    while !line.starts_with("ready:") {
        line.clear();
        let read = log.read_line(&mut line).unwrap();
        all.push_str(&line);
        assert!(read > 0, "zdt ended before it was ready: {all}");
    }
    thread::spawn(move || log.read_to_end(&mut Vec::new()));
}

/// The API server, and what goes on in it until this is dropped.
pub struct Rollout {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _server: Api,
}

impl Rollout {
    /// `step`, once a second with the numbers from 0 on; None: nothing goes on.
    pub fn start<F: FnMut(&Store, u64) + Send + 'static>(store: Store, server: Api, step: Option<F>) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        let rollout = |mut step: F| {
            move || {
                for n in 0.. {
                    step(&store, n);
                    for _ in 0..10 {
                        if ends.load(Relaxed) {
                            return;
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        };
        Self {
            stopped,
            thread: step.map(|step| thread::spawn(rollout(step))),
            _server: server,
        }
    }
}

impl Drop for Rollout {
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
