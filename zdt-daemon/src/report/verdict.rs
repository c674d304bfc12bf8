//! One verdict as one line: when, what the client saw, why, and who was involved.

use std::{fmt::Write as _, net::SocketAddr};

use super::{Style, escape};
use crate::{
    input::{NsName, Wall},
    verdict::{Blame, Confidence, Evidence, Gap, Judgement, Verdict},
};

/// The line, without its newline:
///
/// ```text
/// +0.034 s      refused  endpoint-removal-race  10.0.0.9:41234 -> shop/web (10.96.0.80:80) -> shop/web-5895c69847-x2x4b (10.244.0.5:8080)  listener closed …
/// ```
///
/// The time is relative to the pod's deletion where there was one, else the time of day in UTC.
pub fn verdict_line(verdict: &Verdict, style: Style) -> String {
    let cause = format!("{:<21}", verdict.cause());
    let cause = match verdict.blame {
        Blame::Rollout => style.red(cause),
        Blame::Unknown => style.yellow(cause),
        Blame::NotTheRollout | Blame::NotARequest => style.dim(cause),
    };
    let mut line = format!(
        "{:<13}  {:<12}  {cause}  {}  {}",
        when(verdict),
        verdict.outcome.to_string(),
        path(verdict),
        because(verdict),
    );
    match verdict.blame {
        Blame::NotTheRollout => line.push_str("  [not the rollout]"),
        Blame::NotARequest => line.push_str("  [not a request]"),
        Blame::Rollout | Blame::Unknown => {}
    }
    if let Confidence::Degraded { lost } = verdict.confidence {
        line.push_str(&style.yellow(format!("  [unsure: {}]", missing(lost, &verdict.gaps))));
    }
    line
}

/// What a verdict may lack.
pub(super) fn missing(lost: u64, gaps: &[Gap]) -> String {
    let lost = (lost > 0).then(|| format!("{lost} events lost around it"));
    let gaps = gaps.iter().map(Gap::to_string);
    lost.into_iter().chain(gaps).collect::<Vec<_>>().join(", ")
}

fn when(verdict: &Verdict) -> String {
    let (Judgement::Explained {
        finding: crate::verdict::Finding { evidence, .. },
        ..
    }
    | Judgement::Unexplained { seen: evidence, .. }) = &verdict.judgement;
    match since_deletion_ms(evidence, verdict) {
        Some(ms) => format!("{:+.3} s", ms / 1000.0),
        None => time_of_day(verdict.wall),
    }
}

/// The verdict's end relative to the deletion that its evidence is measured from.
fn since_deletion_ms(evidence: &[Evidence], verdict: &Verdict) -> Option<f64> {
    evidence
        .iter()
        .find_map(|e| Some(e.since_deletion_ms? + verdict.ended.ms_since(e.at)))
}

/// `HH:MM:SS.mmm` in UTC; Kubernetes logs are in UTC too.
fn time_of_day(wall: Wall) -> String {
    let ms = wall.0.rem_euclid(86_400_000);
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}

/// Client, service and pod, as far as they are known.
pub(super) fn path(verdict: &Verdict) -> String {
    let mut path = verdict.client.to_string();
    // A client that dialled the pod itself has no service in between: one arrow is enough.
    let dialled = verdict
        .dialled
        .filter(|d| verdict.service.is_some() || Some(*d) != verdict.server);
    step(&mut path, verdict.service.as_ref(), dialled);
    step(&mut path, verdict.pod.as_ref().map(|p| &p.pod), verdict.server);
    path
}

/// ` -> name (address)`, or what is known of it. Writing to a String cannot fail.
fn step(path: &mut String, name: Option<&NsName>, addr: Option<SocketAddr>) {
    let name = name.map(NsName::to_string);
    let _ = match (name.as_deref().map(escape), addr) {
        (Some(name), Some(addr)) => write!(path, " -> {name} ({addr})"),
        (Some(name), None) => write!(path, " -> {name}"),
        (None, Some(addr)) => write!(path, " -> {addr}"),
        (None, None) => Ok(()),
    };
}

/// Why, in one sentence; of an unexplained one what was seen of it.
pub fn because(verdict: &Verdict) -> String {
    match &verdict.judgement {
        Judgement::Explained { finding, .. } => escape(&finding.because).into_owned(),
        Judgement::Unexplained { seen, missing } => {
            let seen: Vec<_> = seen.iter().map(|e| escape(&e.what)).collect();
            let mut text = if seen.is_empty() {
                "nothing was seen of it but its end".to_owned()
            } else {
                format!("seen: {}", seen.join("; "))
            };
            if !missing.is_empty() {
                let missing: Vec<_> = missing.iter().map(|m| escape(m)).collect();
                let _ = write!(text, " (missing: {})", missing.join("; "));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{Ktime, PodUid},
        verdict::{Finding, Outcome, PodRef, Trigger},
    };

    fn name(name: &str) -> NsName {
        NsName {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    fn verdict() -> Verdict {
        Verdict {
            id: "x".into(),
            node: "n1".into(),
            began: Ktime(1_000_000_000),
            ended: Ktime(1_034_000_000),
            wall: Wall(1_763_784_000_123),
            outcome: Outcome::Refused,
            blame: Blame::Rollout,
            client: "10.0.0.9:41234".parse().unwrap(),
            dialled: Some("10.96.0.80:80".parse().unwrap()),
            server: Some("10.244.0.5:8080".parse().unwrap()),
            service: Some(name("web")),
            pod: Some(PodRef {
                uid: PodUid("u".into()),
                pod: name("web-1-a"),
                workload: None,
                template_hash: None,
            }),
            trigger: Trigger::RollingUpdate,
            amplifiers: Vec::new(),
            judgement: Judgement::Explained {
                cause: "endpoint-removal-race",
                finding: Finding {
                    because: "listener closed 12 ms after SIGTERM".into(),
                    evidence: vec![Evidence {
                        at: Ktime(1_012_000_000),
                        since_deletion_ms: Some(12.0),
                        what: "listener closed".into(),
                    }],
                    measures: Vec::new(),
                },
            },
            also_matched: Vec::new(),
            gaps: Vec::new(),
            confidence: Confidence::Full,
        }
    }

    #[test]
    fn line_has_time_outcome_cause_path_and_reason() {
        assert_eq!(
            verdict_line(&verdict(), Style::PLAIN),
            "+0.034 s       refused       endpoint-removal-race  \
             10.0.0.9:41234 -> shop/web (10.96.0.80:80) -> shop/web-1-a (10.244.0.5:8080)  \
             listener closed 12 ms after SIGTERM"
        );
    }

    #[test]
    fn without_a_deletion_the_time_of_day_is_given() {
        let mut v = verdict();
        v.judgement = Judgement::Unexplained {
            seen: Vec::new(),
            missing: vec!["the translation of this connection".into()],
        };
        let line = verdict_line(&v, Style::PLAIN);
        assert!(
            line.starts_with("04:00:00.123   refused       unexplained "),
            "{line}"
        );
        assert!(
            line.ends_with("(missing: the translation of this connection)"),
            "{line}"
        );
    }

    #[test]
    fn lost_events_are_marked_on_the_line() {
        let mut v = verdict();
        v.confidence = Confidence::Degraded { lost: 7 };
        assert!(verdict_line(&v, Style::PLAIN).ends_with("  [unsure: 7 events lost around it]"));
    }

    #[test]
    fn what_a_process_calls_itself_cannot_write_to_the_terminal() {
        let mut v = verdict();
        if let Judgement::Explained { finding, .. } = &mut v.judgement {
            finding.because = "\u{1b}[2Jevil\nline".into();
        }
        let line = verdict_line(&v, Style::PLAIN);
        assert!(!line.contains('\u{1b}') && !line.contains('\n'), "{line:?}");
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        assert!(!verdict_line(&verdict(), Style::PLAIN).contains('\u{1b}'));
        assert!(verdict_line(&verdict(), Style { colour: true }).contains("\u{1b}[31mendpoint-removal-race"));
    }
}
