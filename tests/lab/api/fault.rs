//! How an API server fails for those who watch it, on command: one arm for each fault.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::status::Failure;

/// What it does. The lab's own tasks use the store and notice nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Every connection is cut, and new ones are refused: its process has ended.
    Refuse,
    /// Nothing is answered and nothing is sent, and no connection ends: its process, or the network, has stopped.
    Hang,
    /// 410 Gone.
    Gone,
    /// 429 with `Retry-After: 1`, as priority and fairness rejects.
    TooManyRequests,
    /// 500.
    InternalError,
    /// All watches end, as when a load balancer in front of it is reloaded.
    CloseWatches,
    /// All watches end with 410, and their versions are too old to go on from: a compaction.
    ForgetHistory,
}

impl Fault {
    /// The schema's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::Gone => "gone",
            Self::TooManyRequests => "too-many-requests",
            Self::InternalError => "internal-error",
            Self::CloseWatches => "close-watches",
            Self::ForgetHistory => "forget-history",
        }
    }

    /// It is over as soon as it happens.
    pub fn momentary(self) -> bool {
        matches!(self, Self::CloseWatches | Self::ForgetHistory)
    }
}

/// Which requests are answered so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    #[default]
    Both,
    List,
    Watch,
}

/// The fault that is there now, for whoever answers.
#[derive(Debug)]
pub(super) struct Faults {
    now: watch::Sender<Option<(Fault, Asked)>>,
    /// A change of it ends the watches that run.
    closed: watch::Sender<()>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            now: watch::Sender::new(None),
            closed: watch::Sender::new(()),
        }
    }
}

impl Faults {
    pub(super) fn begin(&self, fault: Fault, asked: Asked) {
        self.now.send_replace(Some((fault, asked)));
        // Who is served already asks for nothing: the watches end, so that the fault is met.
        let watches_on = matches!(fault, Fault::Hang | Fault::Refuse) || asked == Asked::List;
        if !watches_on || fault == Fault::CloseWatches {
            self.closed.send_replace(());
        }
    }

    pub(super) fn end(&self) {
        self.now.send_replace(None);
    }

    pub(super) fn closed(&self) -> watch::Receiver<()> {
        self.closed.subscribe()
    }

    /// Returns when it does not hang.
    pub(super) async fn unless_hanging(&self) {
        let mut now = self.now.subscribe();
        let hangs = |now: &Option<(Fault, Asked)>| matches!(now, Some((Fault::Hang, _)));
        // The sender is ours.
        let _ = now.wait_for(|now| !hangs(now)).await;
    }

    /// What it answers to a list or a watch instead.
    pub(super) fn instead(&self, watch: bool) -> Option<Response> {
        let (fault, asked) = (*self.now.borrow())?;
        match asked {
            Asked::List if watch => return None,
            Asked::Watch if !watch => return None,
            _ => {}
        }
        match fault {
            Fault::Gone => Some(Failure::gone(1, 2).into_response()),
            // No Status object (apiserver, server/filters/priority-and-fairness.go, tooManyRequests).
            Fault::TooManyRequests => Some(
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    [(header::RETRY_AFTER, "1")],
                    "Too many requests, please try again later.\n",
                )
                    .into_response(),
            ),
            Fault::InternalError => Some(Failure::internal("etcdserver: request timed out").into_response()),
            Fault::Refuse | Fault::Hang | Fault::CloseWatches | Fault::ForgetHistory => None,
        }
    }
}
