//! Did the rollout lose requests? Yes, no, or it cannot be told: what is not known is never read as fine.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Style, escape,
    live::live_stories,
    screen,
    story::{Report, Wanted},
};
use crate::verdict::{Output, RolloutSummary, UnderWay};

/// What was read of one node.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// The node, or where it was asked.
    pub from: String,
    /// Why it did not see everything; empty: it did.
    pub blind: Vec<String>,
    pub under_way: Vec<UnderWay>,
    /// The summaries that count, and the verdicts of their time.
    pub outputs: Vec<Output>,
}

/// The answer; of several that hold, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// More requests were lost than the budget allows. Nothing that is not known can change that.
    Lost,
    /// It cannot be told.
    Unknown,
    /// Not more than the budget so far, and it goes on.
    UnderWay,
    /// Not more than the budget.
    Kept,
}

/// The answer with its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    pub answer: Answer,
    /// Why it cannot be told.
    pub unknown: Vec<String>,
    /// Requests that were lost to the rollout, or for an unknown reason.
    pub failed: usize,
    pub unexplained: usize,
    pub budget: usize,
    /// Who was asked.
    pub nodes: Vec<String>,
    /// Of this workload.
    pub under_way: Vec<UnderWay>,
    #[serde(skip)]
    pub report: Report,
}

impl Gate {
    pub fn of(looked: Vec<Looked>, wanted: &Wanted, budget: usize) -> Self {
        let mut unknown = Vec::new();
        let mut outputs = Vec::new();
        let mut under_way = Vec::new();
        let mut nodes = Vec::new();
        for node in looked {
            unknown.extend(node.blind.iter().map(|why| format!("{}: {why}", node.from)));
            let own = |u: &UnderWay| wanted.workload(&u.namespace, Some(&u.workload));
            under_way.extend(node.under_way.into_iter().filter(own));
            outputs.extend(node.outputs);
            nodes.push(node.from);
        }
        // What was summed up is told already.
        let open: Vec<UnderWay> = under_way.iter().filter(|u| !u.summed_up).cloned().collect();
        nodes.sort();
        let report = Report::of(live_stories(outputs, &open), wanted);
        for story in &report.rollouts {
            let r = &story.rollout;
            if r.events_lost > 0 {
                unknown.push(format!(
                    "{}: {} events were lost, and a failed request may be among them",
                    r.node, r.events_lost
                ));
            }
            unknown.extend(r.gaps.iter().map(|gap| format!("{}: {gap}", r.node)));
            if r.pods_elsewhere > 0 && under_way.is_empty() {
                unknown.push(format!(
                    "{} pods ended on nodes that did not tell: ask the zdt of each node",
                    r.pods_elsewhere
                ));
            }
        }
        if report.rollouts.is_empty() {
            let name = wanted.workload.as_deref().unwrap_or("any workload");
            unknown.push(format!("no rollout of {name} was seen"));
        }
        let failed = report.failed();
        let unexplained = report.rollouts.iter().map(|s| s.rollout.unexplained).sum();
        let answer = match (failed > budget, unknown.is_empty(), under_way.is_empty()) {
            (true, _, _) => Answer::Lost,
            (_, false, _) => Answer::Unknown,
            (_, _, false) => Answer::UnderWay,
            (_, _, true) => Answer::Kept,
        };
        Self {
            answer,
            unknown,
            failed,
            unexplained,
            budget,
            nodes,
            under_way,
            report,
        }
    }

    /// The time is over: what is not known now, stays so.
    pub fn time_out(&mut self, why: &str) {
        self.unknown.push(format!("time ran out: {why}"));
        if self.answer != Answer::Lost {
            self.answer = Answer::Unknown;
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = object.as_object_mut() {
            // Without the pods one by one: the report has them.
            let short = |r: &RolloutSummary| RolloutSummary {
                propagation: Vec::new(),
                ..r.clone()
            };
            let summed_up: Vec<RolloutSummary> =
                self.report.rollouts.iter().map(|s| short(&s.rollout)).collect();
            fields.insert("says".to_owned(), json!(self.says()));
            fields.insert("rollouts".to_owned(), json!(summed_up));
        }
        object
    }

    /// One sentence.
    pub fn says(&self) -> String {
        let of = if self.budget > 0 {
            format!(" of {} allowed", self.budget)
        } else {
            String::new()
        };
        let requests = if self.failed == 1 { "request" } else { "requests" };
        match self.answer {
            Answer::Unknown => format!("cannot tell: {}", self.unknown.join("; ")),
            Answer::UnderWay => format!("under way, {} {requests} lost so far{of}", self.failed),
            Answer::Kept if self.failed == 0 => "no request lost".to_owned(),
            Answer::Lost | Answer::Kept => format!("{} {requests} lost{of}", self.failed),
        }
    }
}

/// The answer, then the report.
pub fn gate_text(gate: &Gate, style: Style) -> String {
    let word = match gate.answer {
        Answer::Kept => style.green("passed"),
        Answer::Lost => style.red("failed"),
        Answer::Unknown | Answer::UnderWay => style.yellow("unknown"),
    };
    let report = screen(&gate.report, style);
    let gap = if report.is_empty() { "" } else { "\n" };
    format!("gate {word}: {}\n{gap}{report}", escape(&gate.says()))
}
