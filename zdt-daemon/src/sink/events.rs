//! What is to be told in Kubernetes: one Event on the workload for each rollout and cause that lost requests.
//!
//! An Event is written once. A summary that comes again (a verdict came late) says nothing anew of a cause that was told:
//! in events.k8s.io/v1 the note of an Event can never change, and `series` counts repetitions of one event, so a new count
//! could only contradict the note. A cause that the summary had not named before is told then. Its name follows from what
//! it tells, so that one that is written again, after an answer that was lost, is there already. `create` is enough.

use std::{fmt::Write as _, io};

use tokio::sync::mpsc;

use super::{
    Sink,
    metrics::{Counted, EventCounts},
};
use crate::{
    causes::UNEXPLAINED,
    input::Workload,
    report::escape,
    verdict::{Advice, Output, RolloutSummary, Trigger},
};

/// Events that may wait for the API server; one is a kilobyte. A rollout has a handful of causes.
pub const WAITING: usize = 256;

/// The API server refuses a longer note (pkg/apis/core/validation/events.go, NoteLengthLimit).
const LONGEST_NOTE: usize = 1024;

/// One Event, as far as it follows from the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub namespace: String,
    pub workload: Workload,
    /// Of the pods that came or went; it leads to their ReplicaSet.
    pub template_hash: Option<String>,
    /// `metadata.name`: the same for the same rollout, cause and node.
    pub name: String,
    /// The cause in CamelCase.
    pub reason: String,
    /// The trigger in CamelCase.
    pub action: String,
    pub note: String,
}

/// The Events of a rollout, one for each cause.
pub fn told(rollout: &RolloutSummary) -> Vec<Told> {
    let causes = rollout
        .causes
        .iter()
        .map(|c| (c.cause, c.count, c.summary.as_str()));
    let unexplained = (
        UNEXPLAINED,
        rollout.unexplained,
        "what zdt saw does not decide the cause",
    );
    let all = causes.chain((rollout.unexplained > 0).then_some(unexplained));
    let revision = rollout.to.as_ref().or(rollout.from.as_ref());
    all.filter(|(_, count, _)| *count > 0)
        .map(|(cause, count, summary)| Told {
            namespace: rollout.namespace.clone(),
            workload: rollout.workload.clone(),
            template_hash: revision.map(|r| r.template_hash.clone()),
            name: name(rollout, cause),
            reason: camel(cause),
            action: action(rollout.trigger),
            note: note(rollout, count, summary),
        })
        .collect()
}

/// `web.1f0c…`, as the names of Events are: the object's, and a number that tells them apart.
fn name(rollout: &RolloutSummary, cause: &str) -> String {
    let began = format!("{} {}", rollout.wall.0, rollout.began.0);
    let parts = [
        rollout.node.as_str(),
        &rollout.namespace,
        &rollout.workload.kind,
        &rollout.workload.name,
        &began,
        cause,
    ];
    // The most that fits a name of 253 characters; it may not end on a sign.
    let object: String = rollout.workload.name.chars().take(230).collect();
    format!("{}.{:016x}", object.trim_end_matches(['.', '-']), fnv1a(&parts))
}

/// FNV-1a, 64 bits: the same in every version of zdt, which the standard library's hasher does not promise.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|p| p.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// `endpoint-removal-race` is `EndpointRemovalRace`.
fn camel(words: &str) -> String {
    let mut camel = String::with_capacity(words.len());
    for word in words.split(['-', ' ']) {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// What was done to the workload. An Event must name something.
fn action(trigger: Trigger) -> String {
    match trigger {
        Trigger::None => "Rollout".to_owned(),
        other => camel(&other.to_string()),
    }
}

fn note(rollout: &RolloutSummary, count: usize, summary: &str) -> String {
    let requests = if count == 1 { "request" } else { "requests" };
    // Writing to a String cannot fail.
    let mut note = format!("{count} {requests} failed on node {}", rollout.node);
    match (&rollout.from, &rollout.to) {
        (Some(from), Some(to)) => {
            let _ = write!(note, " ({} -> {})", from.template_hash, to.template_hash);
        }
        (Some(one), None) | (None, Some(one)) => {
            let _ = write!(note, " ({})", one.template_hash);
        }
        (None, None) => {}
    }
    let _ = write!(note, ": {summary}.");
    for advice in &rollout.advice {
        let _ = write!(note, " {}", advised(advice, rollout.failed));
    }
    if rollout.events_lost > 0 {
        let _ = write!(
            note,
            " {} pieces of information were lost meanwhile.",
            rollout.events_lost
        );
    }
    if let Some(gap) = rollout.gaps.first() {
        let _ = write!(note, " Not all of it was seen: {gap}.");
    }
    // `kubectl describe` prints it as it is.
    shortened(escape(&note).into_owned())
}

/// The advice is the whole rollout's, as its number says.
fn advised(advice: &Advice, failed: usize) -> String {
    let value = advice.value.map(|v| format!(": {v}")).unwrap_or_default();
    format!(
        "Do: {}{value} ({}), would have prevented {} of the rollout's {failed}.",
        advice.setting, advice.because, advice.prevents
    )
}

fn shortened(mut note: String) -> String {
    const MORE: &str = "…";
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE - MORE.len())
            .rev()
            .find(|at| note.is_char_boundary(*at));
        note.truncate(end.unwrap_or(0));
        note.push_str(MORE);
    }
    note
}

/// Hands them to what writes them, and never waits for it.
pub struct EventsSink {
    to: mpsc::Sender<Told>,
    counts: EventCounts,
    counted: Counted,
}

impl EventsSink {
    /// The sink, and the end that is to be written.
    pub fn new(counts: EventCounts) -> (Self, mpsc::Receiver<Told>) {
        let (to, from) = mpsc::channel(WAITING);
        let counted = Counted::default();
        (Self { to, counts, counted }, from)
    }
}

impl Sink for EventsSink {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        let Output::Rollout(rollout) = output else {
            return Ok(());
        };
        for told in told(rollout) {
            if self.counted.first(&told.namespace, &told.name, rollout.began)
                && let Err(refused) = self.to.try_send(told)
            {
                self.counts.dropped.inc();
                tracing::debug!("an Event is not written: {refused}");
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
