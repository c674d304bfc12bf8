//! What stands in the logs: the client's ground truth and zdt's verdicts, on one clock. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{client::Summary, score::Claim, truth::Request};

/// The client's log: a line for each request, then the summary. Times become nanoseconds since 1970.
pub(super) fn truth(log: &str) -> Result<Vec<Request>> {
    let (mut requests, mut summary) = (Vec::new(), None);
    for line in log.lines().filter(|line| line.starts_with('{')) {
        if let Ok(request) = serde_json::from_str::<Request>(line) {
            requests.push(request);
        } else if let Ok(found) = serde_json::from_str::<Summary>(line) {
            summary = Some(found);
        }
    }
    let summary = summary.context("the client's log has no summary: it did not end well")?;
    // A kubelet keeps the newest part of a log that grows over its limit.
    ensure!(
        summary.requests == requests.len() as u64,
        "the client sent {} requests and its log has {}: the node's containerLogMaxSize is too small",
        summary.requests,
        requests.len()
    );
    for request in &mut requests {
        for ns in [&mut request.began_ns, &mut request.ended_ns] {
            *ns = ns.saturating_add_signed(summary.wall_ahead_ns);
        }
    }
    Ok(requests)
}

/// What a log says behind the line that was its last one. None: that line is gone, the log was rotated.
pub(super) fn since<'a>(last_line: &str, log: &'a str) -> Option<&'a str> {
    let at = log.find(last_line)?;
    log.get(at + last_line.len()..)
}

/// What one zdt says about a namespace and a client.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) claims: Vec<Claim>,
    /// The most that a verdict's window lost, as the verdicts say.
    pub(super) lost: u64,
}

/// Which verdicts are the scenario's: a cluster has others.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) namespace: &'a str,
    pub(super) client: &'a [IpAddr],
}

impl Said {
    /// A pod's log has its standard error, too. Times become nanoseconds since 1970.
    pub(super) fn read(log: &str, about: &About<'_>) -> Result<Self> {
        let mut said = Self::default();
        for line in log.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if value.get("kind").and_then(Value::as_str) != Some("verdict") {
                continue;
            }
            let wall_ms = value
                .get("wall")
                .and_then(Value::as_i64)
                .context("a verdict without `wall`")?;
            let of = |field: &str| {
                let namespace = value.get(field).and_then(|object| object.get("namespace"));
                namespace.and_then(Value::as_str) == Some(about.namespace)
            };
            let (of_pod, of_service) = (of("pod"), of("service"));
            let lost = value.pointer("/confidence/lost").and_then(Value::as_u64);
            let mut claim: Claim = serde_json::from_value(value)?;
            let ours = of_pod || of_service || about.client.contains(&claim.client.ip().to_canonical());
            if !ours {
                continue;
            }
            let took = claim.ended.saturating_sub(claim.began);
            claim.ended = u64::try_from(wall_ms)
                .unwrap_or_default()
                .saturating_mul(1_000_000);
            claim.began = claim.ended.saturating_sub(took);
            said.lost = said.lost.max(lost.unwrap_or_default());
            said.claims.push(claim);
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        "{\"id\":0,\"began_ns\":1000,\"ended_ns\":2000,\"local\":\"10.0.0.1:4000\",\"remote\":\"10.96.0.10:80\",",
        "\"outcome\":\"refused\",\"phase\":\"connect\"}\n",
        "a warning\n",
        "{\"requests\":1,\"failed\":1,\"outcomes\":{},\"servers\":{},\"seconds\":1.0,\"late_max_ms\":0.0,",
        "\"late_p99_ms\":0.0,\"wall_ahead_ns\":5000000}\n"
    );

    #[test]
    fn truth_is_on_the_wall_clock() {
        let truth = truth(LOG).unwrap();
        assert_eq!((truth[0].began_ns, truth[0].ended_ns), (5_001_000, 5_002_000));
    }

    #[test]
    fn a_log_that_lost_its_beginning_or_its_end_is_an_error() {
        let from_second = LOG.split_once('\n').unwrap().1;
        assert!(
            truth(from_second)
                .unwrap_err()
                .to_string()
                .contains("containerLogMaxSize")
        );
        let until_last = LOG.lines().next().unwrap();
        assert!(truth(until_last).unwrap_err().to_string().contains("summary"));
    }

    #[test]
    fn what_stood_in_the_log_before_is_left_out() {
        assert_eq!(since("", "a\nb\n"), Some("a\nb\n"));
        assert_eq!(since("a\n", "a\nb\n"), Some("b\n"));
        assert_eq!(since("b\n", "a\nb\n"), Some(""));
        assert_eq!(since("a\n", "b\nc\n"), None);
    }

    fn verdict(namespace: &str, client: &str, wall: u64) -> String {
        format!(
            "{{\"kind\":\"verdict\",\"began\":7000000,\"ended\":9000000,\"wall\":{wall},\"client\":\"{client}\",\
             \"outcome\":\"refused\",\"blame\":\"rollout\",\"pod\":{{\"namespace\":\"{namespace}\"}},\
             \"confidence\":{{\"level\":\"degraded\",\"lost\":3}}}}\n"
        )
    }

    #[test]
    fn verdicts_of_other_namespaces_are_left_out() {
        let log = [
            "ready: 12 hooks\n".to_owned(),
            verdict("e2e", "10.0.0.1:4000", 1_000),
            verdict("other", "10.0.0.9:4000", 1_000),
            verdict("other", "10.0.0.1:4001", 1_000),
        ];
        let about = About {
            namespace: "e2e",
            client: &["10.0.0.1".parse().unwrap()],
        };
        let said = Said::read(&log.concat(), &about).unwrap();
        let ports: Vec<u16> = said.claims.iter().map(|c| c.client.port()).collect();
        assert_eq!(ports, [4000, 4001]);
        assert_eq!(
            (said.claims[0].began, said.claims[0].ended),
            (998_000_000, 1_000_000_000)
        );
        assert_eq!(said.lost, 3);
    }
}
