//! Whether the API server answers, said once per change; and how fast to try again.

use std::{error::Error, time::Duration};

use super::stream::Broken;
use crate::{clock, input::Ktime};

/// Remembers whether the API server answers, and says when that changes.
#[derive(Debug)]
pub(super) struct Reach {
    url: String,
    away_since: Option<Ktime>,
}

impl Reach {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            away_since: None,
        }
    }

    pub(super) fn away(&self) -> bool {
        self.away_since.is_some()
    }

    /// The text to say, the first time.
    pub(super) fn failed(&mut self, at: Ktime, error: &dyn Error) -> Option<String> {
        if self.away_since.is_some() {
            return None;
        }
        self.away_since = Some(at);
        Some(format!(
            "the API server at {} cannot be reached: {}; zdt keeps trying and lowers the confidence of verdicts \
             meanwhile. Check that the address is right (--kubeconfig), that the server runs, and that this node's \
             network reaches it",
            self.url,
            chain(error)
        ))
    }

    /// The text to say, when it was away.
    pub(super) fn answered(&mut self, at: Ktime) -> Option<String> {
        let since = self.away_since.take()?;
        Some(format!(
            "the API server at {} answers again after {:.1} s",
            self.url,
            at.ms_since(since) / 1000.0
        ))
    }
}

/// An error and its causes in one line, without the repetitions that libraries make.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The API server's own refusal in an error: its HTTP status and message.
pub(super) fn refusal(broken: &Broken) -> Option<(u16, &str)> {
    let Broken::Api(kube::Error::Api(status)) = broken else {
        return None;
    };
    Some((status.code, status.message.as_str()))
}

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// This long without an error, and the next one starts over.
const CALM_MS: f64 = 30_000.0;

/// Waits 0.25 s, then twice as long each time up to 5 s, a quarter more or less so that nodes do not come in step.
///
/// client-go goes to 30 s. A pod's deletion that is learned 30 s late is of no use here, so the longest wait is shorter, and
/// only calm resets it.
#[derive(Debug, Default)]
pub(super) struct Retry {
    next: Option<Duration>,
    last: Ktime,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = clock::now();
        let calm = now.ms_since(self.last) > CALM_MS;
        let wait = self.next.filter(|_| !calm).unwrap_or(FIRST);
        self.last = now;
        self.next = Some((wait * 2).min(LONGEST));
        // The clock's low bits are as random as this needs.
        let spread = 0.75 + (now.0 / 1000 % 512) as f64 / 1024.0;
        Some(wait.mul_f64(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_is_said_once_and_so_is_its_end() {
        let mut reach = Reach::new("http://127.0.0.1:1".into());
        let error = std::io::Error::other("connection refused");
        assert!(reach.answered(Ktime(0)).is_none());
        let text = reach.failed(Ktime(1), &error).unwrap();
        assert!(
            text.contains("http://127.0.0.1:1") && text.contains("connection refused"),
            "{text}"
        );
        assert!(reach.failed(Ktime(2), &error).is_none());
        assert!(
            reach
                .answered(Ktime(2_000_000_001))
                .unwrap()
                .contains("after 2.0 s")
        );
        assert!(reach.answered(Ktime(9)).is_none());
    }

    #[test]
    fn waits_grow_to_five_seconds_and_stay_there() {
        let waits: Vec<_> = Retry::default().take(8).map(|d| d.as_secs_f64()).collect();
        assert!(waits[0] < 0.4 && waits[3] > waits[0], "{waits:?}");
        assert!(waits.iter().all(|w| *w <= 6.3) && waits[7] >= 3.7, "{waits:?}");
    }
}
