//! The end (or the beginning) of one pod as a lane of a timeline: its steps, and the requests that failed at it.

use serde::Serialize;

use crate::{
    input::Ktime,
    verdict::{Change, Evidence, Judgement, Outcome, Propagation, Since, Verdict},
};

/// A step in the life of a pod, in the order in which a good end has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Deleted,
    SliceTerminating,
    Signalled,
    ListenerClosed,
    RulesGone,
    LastConnection,
    Exited,
    NetworkDown,
    Ready,
    SliceReady,
    FirstRule,
    FirstConnection,
    Listening,
}

impl Step {
    /// Every step of an end.
    pub const END: [Self; 8] = [
        Self::Deleted,
        Self::SliceTerminating,
        Self::Signalled,
        Self::ListenerClosed,
        Self::RulesGone,
        Self::LastConnection,
        Self::Exited,
        Self::NetworkDown,
    ];

    /// Every step of a beginning.
    pub const BEGINNING: [Self; 5] = [
        Self::Ready,
        Self::SliceReady,
        Self::FirstRule,
        Self::FirstConnection,
        Self::Listening,
    ];

    /// One letter, for a timeline of text.
    pub fn letter(self) -> char {
        match self {
            Self::Deleted => 'D',
            Self::SliceTerminating | Self::SliceReady => 'S',
            Self::Signalled => 'T',
            Self::ListenerClosed => 'L',
            Self::Listening => 'O',
            Self::RulesGone | Self::FirstRule => 'R',
            Self::LastConnection | Self::FirstConnection => 'C',
            Self::Exited => 'X',
            Self::NetworkDown => 'N',
            Self::Ready => '0',
        }
    }

    /// What it is, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::SliceTerminating => "slice updated",
            Self::Signalled => "SIGTERM",
            Self::ListenerClosed => "listener closed",
            Self::Listening => "listener open",
            Self::RulesGone => "rules gone",
            Self::LastConnection => "last connection",
            Self::Exited => "exited",
            Self::NetworkDown => "network gone",
            Self::Ready => "Ready",
            Self::SliceReady => "slice says ready",
            Self::FirstRule => "rules lead to it",
            Self::FirstConnection => "first connection",
        }
    }
}

/// When a step was reached, milliseconds since the lane's zero, as one node saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    pub step: Step,
    pub ms: f64,
    pub node: String,
}

/// A request that failed at this pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    pub ms: f64,
    pub cause: &'static str,
    pub verdict: String,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lane {
    /// None: failures without a pod (the service had nobody to send them to).
    pub pod: Option<String>,
    /// Where it runs, if not on the node that saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_node: Option<String>,
    /// None: neither its end nor its beginning was seen; zero is the rollout's first sign.
    pub change: Option<Change>,
    /// Milliseconds since the Unix epoch.
    pub zero: i64,
    pub marks: Vec<Mark>,
    pub failures: Vec<Failure>,
}

impl Lane {
    /// The lane of one propagation.
    pub(super) fn of(p: &Propagation) -> Self {
        let mut lane = Self {
            pod: Some(p.pod.clone()),
            pod_node: p.pod_node.clone(),
            change: Some(p.change),
            zero: p.wall.0,
            marks: Vec::new(),
            failures: Vec::new(),
        };
        lane.add(p);
        lane
    }

    /// What a further node saw of the same pod. Its zero is its own: the slices of all nodes change within milliseconds.
    pub(super) fn add(&mut self, p: &Propagation) {
        let steps = match p.change {
            Change::Removal => [
                (Step::Deleted, Some(0.0)),
                (Step::SliceTerminating, p.slice_ms),
                (Step::Signalled, p.own.term_ms),
                (Step::ListenerClosed, p.own.listener_closed_ms),
                (Step::RulesGone, p.rules_ms),
                (Step::LastConnection, p.connection_ms),
                (Step::Exited, p.own.exited_ms),
                (Step::NetworkDown, p.own.network_down_ms),
            ],
            Change::Addition => [
                (Step::Ready, Some(0.0)),
                (Step::SliceReady, p.slice_ms),
                (Step::FirstRule, p.rules_ms),
                (Step::FirstConnection, p.connection_ms),
                (Step::Listening, p.own.listening_ms),
                (Step::Ready, None),
                (Step::Ready, None),
                (Step::Ready, None),
            ],
        };
        for (step, ms) in steps {
            let zero = matches!(step, Step::Deleted | Step::Ready);
            // A node that watches the slices alone did not see the deletion.
            let seen = !zero || (p.since != Since::Slice && self.mark(step).is_none());
            if let Some(ms) = ms.filter(|_| seen) {
                let node = p.node.clone();
                self.marks.push(Mark { step, ms, node });
            }
        }
        if p.pod_node.is_none() {
            self.pod_node = None;
            self.zero = p.wall.0;
        }
    }

    /// The last time that a step was reached: of several nodes the slowest counts.
    pub fn mark(&self, step: Step) -> Option<f64> {
        let of = self.marks.iter().filter(|m| m.step == step);
        of.map(|m| m.ms).max_by(f64::total_cmp)
    }

    /// When it stopped serving new connections.
    pub fn stopped(&self) -> Option<f64> {
        let both = [self.mark(Step::ListenerClosed), self.mark(Step::NetworkDown)];
        both.into_iter().flatten().min_by(f64::total_cmp)
    }

    /// When nothing was sent to it any more.
    pub fn let_go(&self) -> Option<f64> {
        let both = [self.mark(Step::RulesGone), self.mark(Step::LastConnection)];
        both.into_iter().flatten().max_by(f64::total_cmp)
    }

    /// From the first to the last thing on it.
    pub fn span(&self) -> Option<(f64, f64)> {
        let times = || {
            let marks = self.marks.iter().map(|m| m.ms);
            marks.chain(self.failures.iter().map(|f| f.ms))
        };
        let first = times().min_by(f64::total_cmp)?;
        Some((first, times().max_by(f64::total_cmp)?))
    }

    pub(super) fn fail(&mut self, verdict: &Verdict) {
        let ms = since_deletion_ms(verdict).filter(|_| self.change == Some(Change::Removal));
        let ms = ms.unwrap_or_else(|| {
            let before_ms = verdict.ended.ms_since(moment(verdict));
            (verdict.wall.0 - self.zero) as f64 - before_ms
        });
        self.failures.push(Failure {
            ms,
            cause: verdict.cause(),
            verdict: verdict.id.clone(),
        });
    }
}

/// The moment of a failure: what could not connect met its fate when it tried, what was cut, when it was cut.
fn moment(verdict: &Verdict) -> Ktime {
    match verdict.outcome {
        Outcome::Refused | Outcome::TimedOut | Outcome::Unreachable => verdict.began,
        Outcome::Reset | Outcome::ClosedEarly | Outcome::ServedError => verdict.ended,
    }
}

/// That moment relative to the deletion that the evidence is measured from.
pub(super) fn since_deletion_ms(verdict: &Verdict) -> Option<f64> {
    since_zero_ms(verdict, moment(verdict))
}

/// A time relative to that deletion; None: there is none in the evidence.
pub(super) fn since_zero_ms(verdict: &Verdict, at: Ktime) -> Option<f64> {
    let evidence = match &verdict.judgement {
        Judgement::Explained { finding, .. } => &finding.evidence,
        Judgement::Unexplained { seen, .. } => seen,
    };
    let found = |e: &Evidence| Some(e.since_deletion_ms? + at.ms_since(e.at));
    evidence.iter().find_map(found)
}
