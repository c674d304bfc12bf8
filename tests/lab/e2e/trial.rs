//! One scenario on a cluster: objects, client, actions, logs, score; and nothing of it stays.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{LogParams, PostParams};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Args,
    act::Operator,
    clocks,
    cluster::{Cluster, Hopeless, until, within},
    objects::{self, Place},
    said::{About, Said, since, truth},
};
use crate::{
    controllers::pods::{phase, ready, terminal},
    run::{
        JUDGING_GRACE,
        manifest::Applied,
        objects::{APP_PORT, SERVICE_PORT, WEB},
    },
    scenario::{Client, Expect, ExpectedCause, Family, Kind, Place as From, Range, Scenario, Via},
    score::{Score, score},
    world::interrupted,
};

/// The cluster cannot express it, as it says only when asked.
#[derive(Debug, thiserror::Error)]
#[error("the cluster takes no such service: {0}")]
pub(super) struct Unfit(String);

/// For pods to get Ready, images to come, a namespace to end.
const PATIENCE: Duration = Duration::from_mins(3);

/// From the last pod's Ready until every node routes to it: nobody can be asked for that through the API. Slices follow
/// within a second, kube-proxy's `minSyncPeriod` is 1 s, and the kernel takes a second for a large table.
const ROUTED_WITHIN: Duration = Duration::from_secs(4);

/// A pod that is not Ready so long after it could be will not get so: it crashes, hangs or has no node.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// Runs it; None: Ctrl-C came. Whatever comes of it, its namespace is removed.
pub(super) async fn run(cluster: &Cluster, scenario: &Scenario, args: &Args) -> Result<Option<Score>> {
    let began = Instant::now();
    let progress = |what: &str| {
        tracing::info!(
            "{:>5.1} s  {}: {what}",
            began.elapsed().as_secs_f64(),
            scenario.name
        );
    };
    cluster.create_namespace().await?;
    let done = tokio::select! {
        done = tried(cluster, scenario, args, &progress) => done.map(Some),
        signal = interrupted() => signal.map(|()| None).map_err(Into::into),
    };
    progress(&format!("removing namespace {}", cluster.namespace));
    let grace = Duration::from_secs(scenario.workload.grace_s.into());
    let removed = tokio::select! {
        removed = cluster.remove_namespace(PATIENCE + grace) => removed,
        _ = interrupted() => Err(Hopeless(format!("interrupted: namespace {} may stay", cluster.namespace)).into()),
    };
    match (done, removed) {
        (Err(error), Err(stays)) => Err(error.context(format!("{stays:#}"))),
        (done, removed) => removed.and(done),
    }
}

async fn tried(
    cluster: &Cluster,
    scenario: &Scenario,
    args: &Args,
    progress: &impl Fn(&str),
) -> Result<Score> {
    let zdt = cluster.zdt().await?;
    let mut last_lines = Vec::new();
    for one in &zdt {
        last_lines.push(cluster.zdt_log(one, true).await?);
    }
    let (client_node, place) = places(cluster, scenario)?;
    let mut operator = Operator::new(cluster, scenario, &args.image, place);
    let service = objects::service(&cluster.namespace, scenario);
    let service = match cluster.api().create(&PostParams::default(), &service).await {
        // pkg/registry/core/service/ipallocator: a family that the cluster does not have is invalid.
        Err(kube::Error::Api(status)) if status.code == 422 => return Err(Unfit(status.message).into()),
        other => other.context("cannot create the service")?,
    };
    operator.create().await?;
    let limit = operator
        .applied()
        .iter()
        .map(slowest_start)
        .max()
        .unwrap_or_default()
        + PATIENCE;
    let nodes = match place {
        Place::Anywhere => cluster.nodes.len(),
        Place::On(_) => 1,
        Place::NotOn(_) => cluster.nodes.len() - 1,
    };
    let all_ready = async || all_ready(cluster, operator.applied(), nodes).await;
    until("pods Ready", limit, all_ready).await?;
    progress("pods are Ready");
    sleep(ROUTED_WITHIN).await;

    let target = target(cluster, scenario, &service).await?;
    let load = Client {
        seconds: scenario.client.seconds + f64::from(args.longer),
        ..scenario.client.clone()
    };
    let pod = objects::client(&load, target, args.seed, &args.image, client_node);
    let pods = cluster.api::<Pod>();
    let pod = pods
        .create(&PostParams::default(), &pod)
        .await
        .context("cannot create the client")?;
    let name = pod.metadata.name.context("a pod without a name")?;
    let started = async || {
        let pod = pods.get(&name).await?;
        startable(&pod)?;
        Ok((phase(&pod) != "Pending").then_some(pod))
    };
    let pod = until("the client's start", PATIENCE, started).await?;
    let client = addresses(&pod);
    progress(&format!(
        "the client sends {} requests a second to {target}",
        load.rate
    ));
    let start = Instant::now();
    for action in &scenario.actions {
        sleep_until(start + Duration::from_millis(action.at_ms)).await;
        within(PATIENCE, operator.act(action)).await?;
        progress(&action.what.to_string());
    }
    let limit = Duration::from_secs_f64(load.seconds) + Duration::from_millis(load.timeout_ms) + PATIENCE;
    let ended = async || Ok(terminal(&pods.get(&name).await?).then_some(()));
    until("the client's end", limit, ended).await?;
    progress("the client has ended");
    let settled = async || settled(cluster, operator.applied()).await;
    let grace = operator
        .applied()
        .iter()
        .map(|a| a.workload.grace_s)
        .max()
        .unwrap_or_default();
    until(
        "the end of the rollout",
        PATIENCE + Duration::from_secs(grace.into()),
        settled,
    )
    .await?;
    sleep(JUDGING_GRACE).await;

    let log = pods
        .logs(&name, &LogParams::default())
        .await
        .context("no log of the client")?;
    let requests = truth(&log)?;
    let about = About {
        namespace: &cluster.namespace,
        client: &client,
    };
    let (mut claims, mut lost, mut findings) = (Vec::new(), 0, Vec::new());
    for (one, last_line) in zdt.iter().zip(&last_lines) {
        let log = cluster.zdt_log(one, false).await?;
        let Some(log) = since(last_line, &log) else {
            findings.push(format!(
                "the log of {} was rotated meanwhile: the run does not count",
                one.pod
            ));
            continue;
        };
        let said = Said::read(log, &about)?;
        claims.extend(said.claims);
        lost += said.lost;
    }
    progress(&format!("{} requests, {} verdicts", requests.len(), claims.len()));
    let mut score = score(
        &requests,
        &claims,
        // What a daemon has not seen in a run is a finding here.
        &[],
        &expectation(scenario, &cluster.namespace),
        lost,
    );
    score.findings.extend(findings);
    score.findings.extend(clocks::apart(&requests, &claims));
    if cluster.zdt().await? != zdt {
        score
            .findings
            .push("zdt was restarted meanwhile: the run does not count".to_owned());
    }
    Ok(score)
}

/// The client's node, and where the workloads may be: what is meant for one node is on one here, too, since what a
/// client's node can see of a pod elsewhere is less.
fn places<'a>(cluster: &'a Cluster, scenario: &Scenario) -> Result<(&'a str, Place<'a>)> {
    let elsewhere = scenario.client.place == From::OtherNode;
    let node = if elsewhere {
        cluster.nodes.last()
    } else {
        cluster.nodes.first()
    };
    let node = node.context("no node for the client")?.as_str();
    let place = match scenario.topology.nodes {
        _ if elsewhere => Place::NotOn(node),
        1 => Place::On(node),
        _ => Place::Anywhere,
    };
    Ok((node, place))
}

/// What the app and its probe ask for.
fn slowest_start(applied: &Applied) -> Duration {
    let delay_s = applied
        .workload
        .readiness
        .as_ref()
        .map_or(0, |p| p.initial_delay_s);
    let app_ms = applied.app.start_delay_ms + applied.app.ready_after_ms;
    Duration::from_millis(app_ms) + Duration::from_secs(delay_s.into())
}

/// An error where nobody need wait any more.
fn startable(pod: &Pod) -> Result<()> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    for status in statuses.into_iter().flatten() {
        let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
        let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
        if ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"].contains(&reason) {
            let hint = "cargo xtask image --lab, then load it on every node";
            return Err(Hopeless(format!("{reason} of {}: {hint}", status.image)).into());
        }
    }
    Ok(())
}

/// Whether every pod that serves is there and Ready.
async fn all_ready(cluster: &Cluster, all: &[Applied], nodes: usize) -> Result<Option<()>> {
    for applied in all {
        let wanted = match applied.workload.kind {
            Kind::Job => 0,
            Kind::DaemonSet => nodes,
            _ => applied.workload.replicas as usize,
        };
        let pods = cluster.pods(&applied.name).await?;
        pods.iter().try_for_each(startable)?;
        let serves = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && ready(pod);
        if pods.iter().filter(serves).count() < wanted {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// Whether no pod terminates, and all are Ready that may be expected to get so.
async fn settled(cluster: &Cluster, all: &[Applied]) -> Result<Option<()>> {
    for applied in all {
        let patience = slowest_start(applied).min(GIVEN_UP_AFTER) + GIVEN_UP_AFTER;
        let stays = |pod: &Pod| {
            let given_up = pod.metadata.creation_timestamp.as_ref().is_some_and(|created| {
                let age = Timestamp::now().duration_since(created.0);
                Duration::try_from(age).is_ok_and(|age| age > patience)
            });
            pod.metadata.deletion_timestamp.is_none() && (ready(pod) || terminal(pod) || given_up)
        };
        if !cluster.pods(&applied.name).await?.iter().all(stays) {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// What the client dials.
async fn target(cluster: &Cluster, scenario: &Scenario, service: &Service) -> Result<SocketAddr> {
    if scenario.client.via != Via::PodIp {
        let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref());
        let ip = ip.context("the service has no address")?;
        return Ok(SocketAddr::new(ip.parse()?, SERVICE_PORT));
    }
    let v6 = scenario.network.family == Family::V6;
    let pods = cluster.pods(WEB).await?;
    let first = pods.into_iter().find(ready);
    let ips = first.map(|pod| addresses(&pod)).unwrap_or_default();
    let ip = ips
        .into_iter()
        .find(|ip| ip.is_ipv6() == v6)
        .context("no pod to dial")?;
    Ok(SocketAddr::new(ip, APP_PORT))
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    let ips = ips.into_iter().flatten();
    ips.filter_map(|ip| ip.ip.parse().ok()).collect()
}

/// How many fail, and which share of them has which cause, is the cluster's: its rules follow as fast as they do.
fn expectation(scenario: &Scenario, namespace: &str) -> Expect {
    let expect = &scenario.expect;
    let without_share = |cause: &ExpectedCause| ExpectedCause {
        min_share: 0.0,
        ..cause.clone()
    };
    let causes = expect.causes.as_ref().map(|causes| {
        let all = causes.iter();
        all.map(|(name, cause)| (name.clone(), without_share(cause)))
            .collect()
    });
    let renamed = |blamed: &String| {
        blamed
            .rsplit_once('/')
            .map(|(_, name)| format!("{namespace}/{name}"))
    };
    Expect {
        failed: Range::default(),
        causes,
        stayed: Range::default(),
        blamed: expect.blamed.as_ref().and_then(renamed),
        stages_within_ms: None,
        ..expect.clone()
    }
}
