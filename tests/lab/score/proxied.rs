//! Requests that go through a proxy: a verdict is about the proxy's attempt to reach a pod, the truth about the client's
//! request. The proxy's own log joins the two; it is ground truth as the client's file is.
//!
//! One request has one attempt or, where the proxy tries again, several. A verdict about the last attempt of a failed
//! request is about that request. One about an attempt that another one made good is right, too: that connection failed,
//! and only the proxy knows what it did then; it belongs to no failed request. So is one that says of an attempt that its
//! client hung up where the proxy's client had.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use super::{Claim, matching};
use crate::truth::{Outcome, Request};

/// A proxy's attempt to have one request answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Id of the client's request.
    pub request: u64,
    /// What the proxy dialled.
    pub server: SocketAddr,
    /// The proxy's side of the connection, where its log has it.
    pub from: Option<SocketAddr>,
    /// CLOCK_MONOTONIC, nanoseconds; the log has milliseconds.
    pub began_ns: u64,
    pub ended_ns: u64,
    pub failed: bool,
    /// The proxy made no other one for this request.
    pub last: bool,
}

/// Attempts that failed, and whose request did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    pub failed: usize,
    /// Of them: with a verdict.
    pub found: usize,
}

/// One line of a proxy's log (run/ingress/config.rs has the formats).
#[derive(Deserialize)]
struct Line {
    /// Wall clock, seconds: nginx's of the end, haproxy's of the beginning.
    at: f64,
    /// nginx: seconds; haproxy: milliseconds.
    took: f64,
    id: String,
    status: String,
    addr: String,
    #[serde(default)]
    statuses: String,
    #[serde(default)]
    took_each: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    ended: String,
}

/// Reads a proxy's log. `monotonic` turns seconds of the wall clock into nanoseconds of the other.
pub fn attempts(log: &str, monotonic: impl Fn(f64) -> u64) -> Result<Vec<Attempt>, serde_json::Error> {
    let mut all = Vec::new();
    for line in log.lines().filter(|l| l.starts_with('{')) {
        let line: Line = serde_json::from_str(line)?;
        // Somebody else's request: a scanner's.
        let Ok(request) = line.id.parse() else {
            continue;
        };
        match &line.from {
            Some(from) => all.extend(haproxy(&line, request, from.parse().ok(), &monotonic)),
            None => all.extend(nginx(&line, request, &monotonic)),
        }
    }
    Ok(all)
}

/// What the server's side cost the request: the gateway's own statuses.
fn bad_gateway(status: &str) -> bool {
    matches!(status, "502" | "504")
}

/// `$upstream_addr` and its siblings list the attempts in order, separated by a comma (ngx_http_upstream_module).
fn nginx(line: &Line, request: u64, monotonic: impl Fn(f64) -> u64) -> Vec<Attempt> {
    let list = |text: &str| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
    let (statuses, took_each) = (list(&line.statuses), list(&line.took_each));
    let mut began = line.at - line.took;
    let mut all = Vec::new();
    for (n, addr) in list(&line.addr).iter().enumerate() {
        let took = took_each
            .get(n)
            .and_then(|t| t.parse::<f64>().ok())
            .unwrap_or(0.0);
        let ended = began + took;
        if let Ok(server) = addr.parse() {
            all.push(Attempt {
                request,
                server,
                from: None,
                began_ns: monotonic(began),
                ended_ns: monotonic(ended),
                failed: statuses.get(n).is_some_and(|s| bad_gateway(s)),
                last: false,
            });
        }
        began = ended;
    }
    if let Some(last) = all.last_mut() {
        last.last = true;
    }
    all
}

/// The termination state begins with `s` (the server's timeout) or `S` (the server's end, or its refusal), haproxy's
/// configuration manual, 8.5.
fn haproxy(
    line: &Line,
    request: u64,
    from: Option<SocketAddr>,
    monotonic: impl Fn(f64) -> u64,
) -> Option<Attempt> {
    Some(Attempt {
        request,
        server: line.addr.parse().ok()?,
        from,
        began_ns: monotonic(line.at),
        ended_ns: monotonic(line.at + line.took / 1_000.0),
        failed: line.ended.starts_with(['s', 'S']) && line.status.starts_with('5'),
        last: true,
    })
}

/// Makes each verdict about a proxy's failed attempt one about the request behind it. `proxies`: their addresses.
pub fn attribute(
    claims: &mut [Claim],
    truth: &[Request],
    attempts: &[Attempt],
    proxies: &BTreeSet<IpAddr>,
) -> Retried {
    let requests: BTreeMap<u64, &Request> = truth.iter().map(|r| (r.id, r)).collect();
    let outcome = |a: &Attempt| requests.get(&a.request).map(|r| r.outcome);
    let aborted = |a: &Attempt| outcome(a) == Some(Outcome::Aborted);
    let failed: Vec<&Attempt> = attempts.iter().filter(|a| a.failed || aborted(a)).collect();
    let mut near = Vec::new();
    for (c, claim) in claims.iter().enumerate() {
        if !proxies.contains(&claim.client.ip().to_canonical()) {
            continue;
        }
        for (a, attempt) in failed.iter().enumerate() {
            let to = [claim.server, claim.dialled].contains(&Some(attempt.server));
            let by = attempt.from.is_none_or(|from| from == claim.client);
            let fits = attempt.failed || claim.blame == "not-the-rollout";
            if fits && to && by && matching::within(claim, attempt.began_ns, attempt.ended_ns) {
                near.push((claim.ended.abs_diff(attempt.ended_ns), c, a));
            }
        }
    }
    near.sort_unstable();
    let (mut taken, mut found) = (BTreeSet::new(), BTreeSet::new());
    let behind = |attempt: &Attempt| {
        let request = requests.get(&attempt.request).copied();
        request.filter(|r| attempt.last && r.outcome.failed())
    };
    for (_, c, a) in near {
        if taken.contains(&c) || found.contains(&a) {
            continue;
        }
        taken.insert(c);
        found.insert(a);
        let (Some(claim), Some(attempt)) = (claims.get_mut(c), failed.get(a)) else {
            continue;
        };
        match behind(attempt) {
            Some(request) => becomes(claim, request),
            None => claim.retried = true,
        }
    }
    let retried = |a: &usize| {
        let attempt = failed.get(*a);
        attempt.is_some_and(|attempt| attempt.failed && behind(attempt).is_none())
    };
    Retried {
        failed: (0..failed.len()).filter(retried).count(),
        found: found.iter().filter(|a| retried(a)).count(),
    }
}

fn becomes(claim: &mut Claim, request: &Request) {
    if let Some(local) = request.local {
        claim.client = local;
    }
    (claim.began, claim.ended) = (request.began_ns, request.ended_ns);
    // What the proxy makes of its attempt's outcome.
    let status = if claim.outcome == Outcome::TimedOut.name() {
        504
    } else {
        502
    };
    let haproxy_has_one = request.status == Some(503);
    if request.status == Some(status) || haproxy_has_one {
        Outcome::ServedError.name().clone_into(&mut claim.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Phase;

    const S: u64 = 1_000_000_000;
    const NGINX: &str = concat!(
        r#"{"at":12.002,"took":1.002,"id":"7","status":"504","addr":"10.244.1.3:8080","statuses":"504","took_each":"1.001"}"#,
        "\n",
        r#"{"at":11.503,"took":0.003,"id":"8","status":"200","addr":"10.244.1.3:8080, 10.244.1.4:8080","statuses":"502, 200","took_each":"0.001, 0.002"}"#,
        "\n",
        r#"{"at":11.6,"took":0.000,"id":"","status":"404","addr":"","statuses":"","took_each":""}"#,
        "\n",
    );

    fn monotonic(wall: f64) -> u64 {
        u64::try_from(std::time::Duration::from_secs_f64(wall).as_nanos()).unwrap()
    }

    fn request(id: u64, outcome: Outcome, status: u16) -> Request {
        Request {
            id,
            began_ns: 11 * S,
            ended_ns: 12 * S,
            local: Some(SocketAddr::from((
                [10, 244, 1, 9],
                40_000 + u16::try_from(id).unwrap(),
            ))),
            remote: SocketAddr::from(([10, 96, 0, 11], 80)),
            outcome,
            phase: Phase::Response,
            errno: None,
            status: Some(status),
            server: None,
            reused: false,
        }
    }

    fn claim(port: u16, began: u64, ended: u64, outcome: &str) -> Claim {
        Claim {
            began,
            ended,
            client: SocketAddr::from(([10, 244, 1, 20], port)),
            server: Some("10.244.1.3:8080".parse().unwrap()),
            outcome: outcome.to_owned(),
            blame: "rollout".to_owned(),
            ..Claim::default()
        }
    }

    #[test]
    fn a_verdict_about_the_last_attempt_is_about_the_request_and_a_retried_one_about_none() {
        let attempts = attempts(NGINX, monotonic).unwrap();
        assert_eq!(attempts.len(), 3);
        assert_eq!(attempts.iter().filter(|a| a.failed).count(), 2);
        let truth = [
            request(7, Outcome::ServedError, 504),
            request(8, Outcome::Ok, 200),
        ];
        let mut claims = [
            claim(1, 11 * S, 12 * S, "timed-out"),
            claim(2, 11 * S + S / 2, 11 * S + S / 2, "refused"),
            claim(3, 11 * S, 12 * S, "timed-out"),
        ];
        let proxies = BTreeSet::from(["10.244.1.20".parse().unwrap()]);
        let retried = attribute(&mut claims, &truth, &attempts, &proxies);
        assert_eq!(retried, Retried { failed: 1, found: 1 });
        assert_eq!(Some(claims[0].client), truth[0].local);
        assert_eq!(claims[0].outcome, "served-error");
        assert!(claims[1].retried);
        // One attempt makes one verdict right.
        assert!(!claims[2].retried && claims[2].client.port() == 3);
    }

    #[test]
    fn haproxys_port_tells_attempts_to_the_same_pod_apart() {
        let line = r#"{"at":11.000,"took":1001,"id":"7","status":"503","addr":"10.244.1.3:8080","from":"10.244.1.20:2","ended":"sC"}"#;
        let attempts = attempts(line, monotonic).unwrap();
        assert!(attempts[0].failed);
        let truth = [request(7, Outcome::ServedError, 503)];
        let mut claims = [
            claim(1, 11 * S, 12 * S, "timed-out"),
            claim(2, 11 * S, 12 * S, "timed-out"),
        ];
        let proxies = BTreeSet::from(["10.244.1.20".parse().unwrap()]);
        attribute(&mut claims, &truth, &attempts, &proxies);
        assert_eq!(Some(claims[1].client), truth[0].local);
    }

    #[test]
    fn a_proxy_hangs_up_where_its_client_had() {
        let line = r#"{"at":12.0,"took":1.0,"id":"7","status":"499","addr":"10.244.1.3:8080","statuses":"-","took_each":"1.0"}"#;
        let attempts = attempts(line, monotonic).unwrap();
        let truth = [request(7, Outcome::Aborted, 0)];
        let mut named = claim(1, 11 * S, 12 * S, "timed-out");
        named.blame = "not-the-rollout".to_owned();
        let mut claims = [named, claim(2, 11 * S, 12 * S, "timed-out")];
        let proxies = BTreeSet::from(["10.244.1.20".parse().unwrap()]);
        let retried = attribute(&mut claims, &truth, &attempts, &proxies);
        assert_eq!(retried, Retried::default());
        assert!(claims[0].retried && !claims[1].retried);
    }
}
