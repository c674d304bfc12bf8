//! The daemon's stages of propagation against what the lab itself did. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use serde_json::Value;

use crate::{
    times::{Line, What},
    truth::{Outcome, Request},
};

/// A SYN is sent again after 1 s (TCP_TIMEOUT_INIT, include/net/tcp.h).
const SYN_AGAIN_NS: u64 = 1_000_000_000;

/// Errors by stage, milliseconds: the daemon's time minus the lab's.
pub type Errors = BTreeMap<&'static str, Vec<f64>>;

/// Compares each `"kind":"propagation"` of a node's daemon with the lab's own times. What one of the two does not know
/// takes no part. The client knows the last connection to a pod only where every request was answered.
pub fn errors(said: &[Value], lines: &[Line], truth: &[Request]) -> Errors {
    let answered = !truth.iter().any(|r| r.outcome.failed());
    let mut errors = Errors::new();
    let mut seen = BTreeSet::new();
    for one in said.iter().rev() {
        let text = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default();
        let ms = |field: &str| one.get(field).and_then(Value::as_f64);
        let pod = format!("{}/{}", text("namespace"), text("pod"));
        let removal = text("change") == "removal";
        let node = text("node");
        let Some(at) = one.get("at").and_then(Value::as_u64) else {
            continue;
        };
        // A node's last word on a pod counts.
        if !seen.insert((node, pod.clone(), removal)) {
            continue;
        }
        let lab = Pod {
            lines,
            name: &pod,
            ips: addresses(lines, &pod),
            node,
        };
        let Some(began) = (if removal { lab.deleted() } else { lab.ready(at) }) else {
            continue;
        };
        let mut compare = |stage: &'static str, said_ms: Option<f64>, true_ns: Option<u64>| {
            if let (Some(said_ms), Some(true_ns)) = (said_ms, true_ns) {
                let said_ns = at as f64 + said_ms * 1e6;
                errors
                    .entry(stage)
                    .or_default()
                    .push((said_ns - true_ns as f64) / 1e6);
            }
        };
        if removal {
            compare("deletion", Some(0.0), Some(began));
            compare("slice", ms("slice_ms"), lab.slice(began, true));
            compare("rules", ms("rules_ms"), lab.sync(began, true));
            let last = truth
                .iter()
                .filter(|r| served_by(r, &pod))
                .map(|r| r.began_ns)
                .max();
            compare("last-connection", ms("connection_ms"), last.filter(|_| answered));
        } else {
            compare("ready", Some(0.0), Some(began));
            compare("slice-ready", ms("slice_ms"), lab.slice(began, false));
            compare("first-rule", ms("rules_ms"), lab.sync(began, false));
            // A request that was answered late may have been sent elsewhere, or nowhere, when it began.
            let first = truth
                .iter()
                .filter(|r| r.began_ns >= began && served_by(r, &pod))
                .min_by_key(|r| r.began_ns)
                .filter(|r| r.ended_ns.saturating_sub(r.began_ns) < SYN_AGAIN_NS)
                .map(|r| r.began_ns);
            // A pod that was there before the client waited for it, not the client for the pod.
            let client_ran = truth.iter().any(|r| r.began_ns < began);
            compare(
                "first-connection",
                ms("connection_ms"),
                first.filter(|_| client_ran),
            );
        }
    }
    errors
}

/// 95th percentile of the errors' size.
pub fn p95(errors: &[f64]) -> Option<f64> {
    let mut sizes: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let rank = (sizes.len() * 95).div_ceil(100);
    sizes.get(rank.checked_sub(1)?).copied()
}

/// A line for each stage: how many were compared, and how far they were from the lab's times.
pub fn table(errors: &Errors) -> String {
    let mut text = String::new();
    for (stage, errors) in errors {
        let worst = errors.iter().fold(0.0_f64, |w, e| w.max(e.abs()));
        let p95 = p95(errors).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  stage {stage:<16} {:>5} compared   off by {p95:>7.1} ms (p95)  {worst:>7.1} ms (max)",
            errors.len()
        );
    }
    text
}

/// A connection of its own that the pod answered.
fn served_by(request: &Request, pod: &str) -> bool {
    let server = request.server.as_deref();
    !request.reused
        && request.outcome == Outcome::Ok
        && server.is_some_and(|s| pod.rsplit('/').next() == Some(s.rsplit('/').next().unwrap_or(s)))
}

fn addresses(lines: &[Line], pod: &str) -> Vec<IpAddr> {
    let ready = |line: &Line| match &line.what {
        What::PodReady { pod: name, ips } if name == pod => Some(ips.clone()),
        _ => None,
    };
    lines.iter().find_map(ready).unwrap_or_default()
}

/// What the lab knows of one pod.
struct Pod<'a> {
    lines: &'a [Line],
    name: &'a str,
    ips: Vec<IpAddr>,
    node: &'a str,
}

impl Pod<'_> {
    fn first(&self, from: u64, is: impl Fn(&What) -> bool) -> Option<u64> {
        let mut later = self.lines.iter().filter(|l| l.at_ns >= from);
        later.find(|l| is(&l.what)).map(|l| l.at_ns)
    }

    fn deleted(&self) -> Option<u64> {
        self.first(
            0,
            |w| matches!(w, What::PodDeleted { pod, .. } if pod == self.name),
        )
    }

    /// A pod may become Ready again, and a StatefulSet's has the name of the one before it.
    fn ready(&self, said: u64) -> Option<u64> {
        let mine = |l: &&Line| matches!(&l.what, What::PodReady { pod, .. } if pod == self.name);
        let times = self.lines.iter().filter(mine).map(|l| l.at_ns);
        times.min_by_key(|at| at.abs_diff(said))
    }

    /// The first slice that says what has become of it.
    fn slice(&self, from: u64, removal: bool) -> Option<u64> {
        self.first(from, |w| {
            let What::SliceUpdated { endpoints, .. } = w else {
                return false;
            };
            let mine = endpoints.iter().find(|e| self.ips.contains(&e.ip));
            if removal {
                mine.is_some_and(|e| e.terminating)
            } else {
                mine.is_some_and(|e| e.ready)
            }
        })
    }

    /// The node's first rewrite that changes whether it is routed to.
    fn sync(&self, from: u64, removal: bool) -> Option<u64> {
        let mut later = self.lines.iter().filter(|l| l.at_ns >= from);
        later.find_map(|l| match &l.what {
            What::Sync(sync) if sync.node == self.node => {
                let changed = if removal { &sync.removed } else { &sync.added };
                let mine = changed.iter().any(|a| self.ips.contains(&a.ip()));
                mine.then(|| sync.in_force_ns.unwrap_or(l.at_ns))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(at_ms: u64, what: Value) -> Line {
        let mut object = what;
        object["at_ns"] = json!(at_ms * 1_000_000);
        serde_json::from_value(object).unwrap()
    }

    fn lab() -> Vec<Line> {
        vec![
            line(
                1,
                json!({"what": "pod-ready", "pod": "shop/a", "ips": ["10.0.0.1"]}),
            ),
            line(
                100,
                json!({"what": "pod-deleted", "pod": "shop/a", "grace_s": 30}),
            ),
            line(
                105,
                json!({"what": "slice-updated", "slice": "shop/web", "endpoints": [
                    {"ip": "10.0.0.1", "ready": false, "serving": true, "terminating": true}]}),
            ),
        ]
    }

    #[test]
    fn an_error_is_the_daemons_time_minus_the_labs() {
        let said = [
            json!({"kind": "propagation", "node": "n1", "namespace": "shop", "pod": "a",
            "change": "removal", "at": 101_000_000, "slice_ms": 6.0, "rules_ms": 50.0}),
        ];
        let errors = errors(&said, &lab(), &[]);
        assert_eq!(errors["deletion"], [1.0]);
        assert_eq!(errors["slice"], [2.0]);
        assert!(
            !errors.contains_key("rules"),
            "the lab has written no rules: {errors:?}"
        );
    }

    #[test]
    fn a_pod_that_the_lab_does_not_know_takes_no_part() {
        let said = [
            json!({"kind": "propagation", "node": "n1", "namespace": "shop", "pod": "b",
            "change": "removal", "at": 101_000_000}),
        ];
        assert!(errors(&said, &lab(), &[]).is_empty());
    }

    #[test]
    fn p95_is_a_measured_value() {
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(p95(&twenty), Some(19.0));
        assert_eq!(p95(&[-3.0]), Some(3.0));
        assert_eq!(p95(&[]), None);
    }
}
