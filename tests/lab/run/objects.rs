//! A scenario's Kubernetes objects: Deployment and Service `shop/web`, pod `shop/client`.

use std::{net::SocketAddr, path::Path};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, HTTPGetAction, Lifecycle, LifecycleHandler, Pod, PodSpec, Probe, Service, SleepAction,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::{
    controllers,
    net::Addresses,
    scenario::{Family, Mode, OnSigterm, Scenario},
};

pub(super) const NAMESPACE: &str = "shop";
pub(super) const WEB: &str = "web";
pub(super) const CLIENT: &str = "client";
/// Port of the server's container.
pub(super) const APP_PORT: u16 = 8080;
const SERVICE_PORT: u16 = 80;
/// The first port of kube-apiserver's default `--service-node-port-range` 30000-32767.
pub(super) const NODE_PORT: u16 = 30000;

/// The Service's host in the world's service network.
const SERVICE_HOST: u8 = 10;

pub(super) fn service_addr(addresses: Addresses, family: Family) -> SocketAddr {
    SocketAddr::new(
        addresses.service(SERVICE_HOST, family == Family::V6),
        SERVICE_PORT,
    )
}

fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn service(scenario: &Scenario, addresses: Addresses) -> Service {
    let ip = service_addr(addresses, scenario.network.family).ip();
    let target = IntOrString::String("http".to_owned());
    controllers::service(NAMESPACE, WEB, ip, SERVICE_PORT, target, Some(NODE_PORT))
}

pub(super) fn deployment(scenario: &Scenario) -> Deployment {
    let w = &scenario.workload;
    let mut template = controllers::pod_template("app", "zdt-lab", APP_PORT);
    let pod = template.spec.get_or_insert_default();
    pod.termination_grace_period_seconds = Some(i64::from(w.grace_s));
    if let Some(container) = pod.containers.first_mut() {
        container.args = Some(app_args(scenario));
        container.readiness_probe = Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/ready".to_owned()),
                port: IntOrString::String("http".to_owned()),
                ..HTTPGetAction::default()
            }),
            initial_delay_seconds: Some(int(w.readiness.initial_delay_s)),
            period_seconds: Some(int(w.readiness.period_s)),
            timeout_seconds: Some(int(w.readiness.timeout_s)),
            failure_threshold: Some(int(w.readiness.failure_threshold)),
            success_threshold: Some(1),
            ..Probe::default()
        });
        container.lifecycle = w.pre_stop_sleep_s.map(|seconds| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: i64::from(seconds),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        });
    }
    let mut deployment = controllers::deployment(NAMESPACE, WEB, int(w.replicas), template);
    let spec = deployment.spec.get_or_insert_default();
    spec.min_ready_seconds = Some(int(w.min_ready_s));
    spec.strategy = Some(DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(int(w.max_surge))),
            max_unavailable: Some(IntOrString::Int(int(w.max_unavailable))),
        }),
    });
    deployment
}

fn app_args(scenario: &Scenario) -> Vec<String> {
    let app = &scenario.app;
    let on_sigterm = match app.on_sigterm {
        OnSigterm::Exit => "exit",
        OnSigterm::CloseListener => "close-listener",
        OnSigterm::DrainFirst => "drain-first",
        OnSigterm::Ignore => "ignore",
    };
    let any = if app.dual_stack { "[::]" } else { "0.0.0.0" };
    words(&[
        ("--listen", format!("{any}:{APP_PORT}")),
        ("--on-sigterm", on_sigterm.to_owned()),
        ("--drain-ms", app.drain_ms.to_string()),
        ("--start-delay-ms", app.start_delay_ms.to_string()),
        ("--response-delay-ms", app.response_delay_ms.to_string()),
        ("--read-delay-ms", app.read_delay_ms.to_string()),
    ])
}

/// The load client: a bare pod on `node`, which writes the ground truth to `truth` (the lab's containers see the
/// machine's files).
pub(super) fn client(scenario: &Scenario, node: &str, target: SocketAddr, seed: u64, truth: &Path) -> Pod {
    let c = &scenario.client;
    let mode = match c.mode {
        Mode::Short => "short",
        Mode::Keepalive => "keepalive",
    };
    let mut args = words(&[
        ("--target", target.to_string()),
        ("--rate", c.rate.to_string()),
        ("--seconds", c.seconds.to_string()),
        ("--timeout-ms", c.timeout_ms.to_string()),
        ("--mode", mode.to_owned()),
        ("--connections", c.connections.to_string()),
        ("--seed", seed.to_string()),
        ("--truth", truth.display().to_string()),
    ]);
    if let Some(ms) = c.abort_after_ms {
        args.extend(words(&[
            ("--abort-after-ms", ms.to_string()),
            ("--abort-share", c.abort_share.to_string()),
        ]));
    }
    Pod {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(CLIENT.to_owned()),
            labels: Some(controllers::objects::app(CLIENT)),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            restart_policy: Some("Never".to_owned()),
            containers: vec![Container {
                name: CLIENT.to_owned(),
                image: Some("zdt-lab".to_owned()),
                command: Some(vec!["zdt-lab".to_owned(), "client".to_owned()]),
                args: Some(args),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn words(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(name, value)| [(*name).to_owned(), value.clone()])
        .collect()
}
