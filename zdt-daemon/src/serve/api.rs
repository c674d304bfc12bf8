//! What the HTTP interface answers from the last outputs: the outputs, how things stand, the gate, the report, the lanes.

use hyper::{
    StatusCode,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::{
    answer::{Answer, typed},
    query::query,
};
use crate::{
    live::{BOOT, MISSED, MORE, NEXT},
    report::{self, Gate, NodeTold, Report, Wanted, Which, live_stories},
    sink::recent::Recent,
    verdict::Output,
};

pub(super) const OUTPUTS: &str = "/api/v1/outputs";
pub(super) const STATE: &str = "/api/v1/state";
pub(super) const GATE: &str = "/api/v1/gate";
pub(super) const LANES: &str = "/api/v1/lanes";
pub(super) const REPORT: &str = "/api/v1/report";

/// Outputs, and bytes of them, of one answer.
const AT_ONCE: (usize, usize) = (2_000, 4 << 20);

/// The gate looks at rollouts that ended at most so long ago, unless it is told.
const SINCE_MS: i64 = 10 * 60_000;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer that was made aside.
#[derive(Debug)]
pub struct Told {
    pub status: StatusCode,
    pub media: &'static str,
    pub text: String,
}

impl Told {
    fn wrong(why: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            media: TEXT,
            text: format!("{why}\n"),
        }
    }
}

/// JSON lines, as `zdt run -o json` prints them.
pub(super) fn outputs(recent: &Recent, asked: Option<&str>) -> Answer {
    let asked = query(asked.unwrap_or_default());
    let (_, state) = recent.state();
    let same = asked.get("boot").is_none_or(|boot| *boot == state.boot);
    let since = asked.get("since").filter(|_| same).map_or(Ok(0), |s| s.parse());
    let Ok(since) = since else {
        let why = Bytes::from_static(b"since is a number: the last `seq` that you have\n");
        return typed(StatusCode::BAD_REQUEST, TEXT, why);
    };
    let mut behind = recent.behind(since, AT_ONCE.0, AT_ONCE.1);
    let name = asked
        .get("workload")
        .map(|w| w.split_once('/').map_or(w.as_str(), |(_, name)| name));
    let namespace = asked.get("namespace").map(String::as_str);
    behind.kept.retain(|k| k.about.may_be(namespace, name));
    let mut body = Vec::with_capacity(behind.kept.iter().map(|k| k.line.len() + 1).sum());
    for kept in &behind.kept {
        body.extend_from_slice(&kept.line);
        body.push(b'\n');
    }
    let mut answer = typed(StatusCode::OK, "application/x-ndjson", Bytes::from(body));
    let headers = answer.headers_mut();
    for (name, value) in [
        (BOOT, state.boot),
        (MISSED, behind.missed.to_string()),
        (NEXT, behind.next.to_string()),
        (MORE, behind.more.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    answer
}

pub(super) fn state(recent: &Recent) -> Answer {
    let text = report::json(&recent.state().1).unwrap_or_default();
    typed(StatusCode::OK, JSON, Bytes::from(text))
}

/// All nodes that are asked about a workload.
pub(super) type Nodes<'a> = &'a dyn Fn(&Wanted) -> Vec<NodeTold>;

/// The answers that take long.
pub(super) fn made(recent: &Recent, nodes: Nodes<'_>, page: &str, asked: &str, body: Option<&[u8]>) -> Told {
    let asked = query(asked);
    let of = |name: &str| asked.get(name).filter(|v| !v.is_empty()).cloned();
    let wanted = Wanted {
        namespace: of("namespace"),
        workload: of("workload"),
        since_ms: None,
    };
    match page {
        GATE => {
            let budget = of("budget").map_or(Ok(0), |b| b.parse());
            let Ok(budget) = budget else {
                return Told::wrong("budget is a number of requests");
            };
            let since = of("since").map(|s| s.parse::<jiff::SignedDuration>()).transpose();
            let Ok(since) = since else {
                return Told::wrong("since is a duration, as 90s or 10m");
            };
            let since_ms = since.map_or(SINCE_MS, |s| i64::try_from(s.as_millis()).unwrap_or(i64::MAX));
            let to = of("to");
            let which = Which { wanted, since_ms, to };
            let over = of("over").is_some_and(|o| o == "true");
            let question = Question { which, budget, over };
            match body {
                None => asked_by_get(nodes, &question),
                Some(body) => asked_by_post(nodes, question, body),
            }
        }
        LANES => lanes(recent, &wanted, of("began").as_deref()),
        _ => told(recent, &wanted, of("format").as_deref().unwrap_or("html")),
    }
}

/// What is asked of the gate.
struct Question {
    which: Which,
    budget: usize,
    /// Only a rollout that is over is an answer.
    over: bool,
}

impl Question {
    /// 2xx: nothing more than allowed was lost.
    fn status(&self, answer: report::Answer, lost: StatusCode) -> StatusCode {
        match answer {
            report::Answer::Lost => lost,
            report::Answer::Kept => StatusCode::OK,
            report::Answer::UnderWay if !self.over => StatusCode::OK,
            report::Answer::UnderWay | report::Answer::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn gate(nodes: Nodes<'_>, question: &Question) -> Gate {
    let told = nodes(&question.which.wanted);
    Gate::of(
        question.which.looked(told),
        &question.which.wanted,
        question.budget,
    )
}

/// This node, from what is kept.
pub(super) fn own(recent: &Recent, wanted: &Wanted) -> Vec<NodeTold> {
    let (_, state) = recent.state();
    vec![NodeTold {
        from: state.node.clone(),
        state: Some(state),
        silent: None,
        outputs: parsed(recent, wanted),
    }]
}

/// As Argo Rollouts' web metric asks: it reads the JSON of a 2xx, and every other status is an error of the measurement,
/// never a success.
fn asked_by_get(nodes: Nodes<'_>, question: &Question) -> Told {
    if question.which.wanted.workload.is_none() {
        return Told::wrong("which workload? as ?workload=deployment/web&namespace=shop");
    }
    let gate = gate(nodes, question);
    Told {
        status: question.status(gate.answer, StatusCode::OK),
        media: JSON,
        text: report::json(&gate.json()).unwrap_or_default() + "\n",
    }
}

/// What Flagger posts to a webhook.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Posted {
    /// Of the Canary, which has its Deployment's name unless the metadata says another workload.
    name: String,
    namespace: String,
    metadata: std::collections::BTreeMap<String, String>,
}

/// As Flagger's webhooks ask: 2xx goes on, everything else halts, and the text is shown.
fn asked_by_post(nodes: Nodes<'_>, mut question: Question, body: &[u8]) -> Told {
    let posted: Posted = if body.iter().all(u8::is_ascii_whitespace) {
        Posted::default()
    } else {
        match serde_json::from_slice(body) {
            Ok(posted) => posted,
            Err(error) => {
                return Told::wrong(&format!(
                    "the body is no Flagger webhook ({{\"name\":…,\"namespace\":…}}): {error}"
                ));
            }
        }
    };
    let said = |name: &str| posted.metadata.get(name).cloned();
    let named = (!posted.name.is_empty()).then(|| format!("deployment/{}", posted.name));
    let workload = question
        .which
        .wanted
        .workload
        .take()
        .or_else(|| said("workload"))
        .or(named);
    let in_namespace = (!posted.namespace.is_empty()).then(|| posted.namespace.clone());
    question.which.wanted.workload = workload;
    question.which.wanted.namespace = question.which.wanted.namespace.take().or(in_namespace);
    if let Some(budget) = said("budget") {
        let Ok(budget) = budget.parse() else {
            return Told::wrong("metadata.budget is a number of requests");
        };
        question.budget = budget;
    }
    if question.which.wanted.workload.is_none() {
        return Told::wrong("which workload? `name` in the body, or ?workload=deployment/web");
    }
    let gate = gate(nodes, &question);
    let status = question.status(gate.answer, StatusCode::CONFLICT);
    Told {
        status,
        media: TEXT,
        text: gate.says() + "\n",
    }
}

/// The kept outputs that may be of the workload.
fn parsed(recent: &Recent, wanted: &Wanted) -> Vec<Output> {
    let name = wanted.workload.as_deref();
    let name = name.map(|n| n.split_once('/').map_or(n, |(_, name)| name));
    let all = recent.behind(0, usize::MAX, usize::MAX);
    let own = all
        .kept
        .iter()
        .filter(|k| k.about.may_be(wanted.namespace.as_deref(), name));
    own.filter_map(|k| serde_json::from_slice(&k.line).ok()).collect()
}

/// What `zdt report` says of the kept outputs, and of what is under way.
fn told(recent: &Recent, wanted: &Wanted, format: &str) -> Told {
    let report = live(recent, wanted);
    let (media, text) = match format {
        "html" => ("text/html; charset=utf-8", report::html(&report)),
        "text" => (TEXT, report::screen(&report, report::Style::PLAIN)),
        "markdown" => ("text/markdown; charset=utf-8", report::markdown(&report)),
        "json" => (JSON, report::json(&report).unwrap_or_default() + "\n"),
        _ => return Told::wrong("format is html, text, markdown or json"),
    };
    Told {
        status: StatusCode::OK,
        media,
        text,
    }
}

/// The picture of one rollout.
fn lanes(recent: &Recent, wanted: &Wanted, began: Option<&str>) -> Told {
    let began = began.and_then(|b| b.parse::<i64>().ok());
    let report = live(recent, wanted);
    let mut stories = report.rollouts.iter().rev();
    let story = stories.find(|s| began.is_none_or(|b| s.rollout.wall.0 == b));
    Told {
        status: if story.is_some() {
            StatusCode::OK
        } else {
            StatusCode::NO_CONTENT
        },
        media: "image/svg+xml",
        text: story.map(report::story_svg).unwrap_or_default(),
    }
}

fn live(recent: &Recent, wanted: &Wanted) -> Report {
    let outputs = parsed(recent, wanted);
    Report::of(live_stories(outputs, &recent.state().1.under_way), wanted)
}
