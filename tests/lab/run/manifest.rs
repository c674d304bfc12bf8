//! A workload of a scenario as Kubernetes objects.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::{
    api::{
        apps::v1::{
            DaemonSet, Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet,
        },
        batch::v1::Job,
        core::v1::{
            Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Pod, PodTemplateSpec,
            ResourceRequirements, SleepAction,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::{
    actions::namespace,
    ingress::{self, Config},
    objects::APP_PORT,
};
use crate::{
    api::Store,
    controllers,
    scenario::{App, Kind, Probe, Strategy, Workload},
};

/// What was applied last under one name.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) name: String,
    pub(crate) workload: Workload,
    pub(crate) app: App,
    /// It is the proxy: its container runs this.
    pub(super) proxy: Option<Config>,
}

/// The object that owns a workload's pods, or the pods.
pub(crate) enum Made {
    Deployment(Deployment),
    StatefulSet(StatefulSet),
    DaemonSet(DaemonSet),
    Job(Job),
    Pods(Vec<Pod>),
}

fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Applied {
    pub(crate) fn new(name: &str, workload: &Workload, app: &App) -> Self {
        Self {
            name: name.to_owned(),
            workload: workload.clone(),
            app: app.clone(),
            proxy: None,
        }
    }

    /// Creates the object that owns the pods (or the pods).
    pub(super) fn create(&self, store: &Store) -> Result<()> {
        match self.made(namespace(&self.name), self.template()) {
            Made::Deployment(deployment) => drop(store.create(deployment)?),
            Made::StatefulSet(set) => drop(store.create(set)?),
            Made::DaemonSet(set) => drop(store.create(set)?),
            Made::Job(job) => drop(store.create(job)?),
            Made::Pods(pods) => {
                for pod in pods {
                    store.create(pod)?;
                }
            }
        }
        Ok(())
    }

    /// The same, not created yet.
    pub(crate) fn made(&self, namespace: &str, template: PodTemplateSpec) -> Made {
        let replicas = int(self.workload.replicas);
        let name = self.name.as_str();
        match self.workload.kind {
            Kind::Deployment => {
                let mut deployment = controllers::deployment(namespace, name, replicas, template);
                self.roll_as(deployment.spec.get_or_insert_default());
                Made::Deployment(deployment)
            }
            Kind::StatefulSet => {
                let partition = int(self.workload.partition);
                let min_ready_s = int(self.workload.min_ready_s);
                let set =
                    controllers::stateful_set(namespace, name, replicas, partition, min_ready_s, template);
                Made::StatefulSet(set)
            }
            Kind::DaemonSet => Made::DaemonSet(controllers::daemon_set(namespace, name, template)),
            Kind::Job => Made::Job(controllers::job(namespace, name, replicas, template)),
            Kind::Pods => {
                let pod = |n| controllers::bare_pod(namespace, name, &format!("{name}-{n}"), &template);
                Made::Pods((0..replicas).map(pod).collect())
            }
        }
    }

    /// A Deployment's replicas, template and strategy.
    pub(crate) fn roll_as(&self, spec: &mut DeploymentSpec) {
        let w = &self.workload;
        spec.replicas = Some(int(w.replicas));
        spec.min_ready_seconds = Some(int(w.min_ready_s));
        spec.strategy = Some(match w.strategy {
            Strategy::Recreate => DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            },
            Strategy::RollingUpdate => DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(int(w.max_surge))),
                    max_unavailable: Some(IntOrString::Int(int(w.max_unavailable))),
                }),
            },
        });
    }

    /// The pod template, with the label that its Service selects.
    pub(crate) fn template(&self) -> PodTemplateSpec {
        let w = &self.workload;
        let mut template = controllers::pod_template("app", "zdt-lab", APP_PORT);
        let labels = controllers::objects::app(&self.name);
        template.metadata.get_or_insert_default().labels = Some(labels);
        let pod = template.spec.get_or_insert_default();
        pod.termination_grace_period_seconds = Some(i64::from(w.grace_s));
        pod.host_network = w.host_network.then_some(true);
        if let Some(container) = pod.containers.first_mut() {
            container.args = Some(app_args(&self.app));
            if let Some(config) = &self.proxy {
                ingress::container(container, config);
            }
            container.readiness_probe = w.readiness.as_ref().map(|p| probe(p, "/ready"));
            container.liveness_probe = w.liveness.as_ref().map(|p| probe(p, "/healthz"));
            container.startup_probe = w.startup.as_ref().map(|p| probe(p, "/healthz"));
            container.lifecycle = lifecycle(w);
            container.resources = w.memory_limit_mib.map(|mib| ResourceRequirements {
                limits: Some(BTreeMap::from([(
                    "memory".to_owned(),
                    Quantity(format!("{mib}Mi")),
                )])),
                ..ResourceRequirements::default()
            });
        }
        if let Some(sidecar) = &w.sidecar {
            let container = Container {
                name: "sidecar".to_owned(),
                image: Some("zdt-lab".to_owned()),
                args: Some(app_args(&sidecar.app)),
                restart_policy: sidecar.native.then(|| "Always".to_owned()),
                ..Container::default()
            };
            if sidecar.native {
                pod.init_containers = Some(vec![container]);
            } else {
                pod.containers.push(container);
            }
        }
        template
    }
}

fn probe(p: &Probe, path: &str) -> k8s_openapi::api::core::v1::Probe {
    k8s_openapi::api::core::v1::Probe {
        http_get: Some(get(path)),
        initial_delay_seconds: Some(int(p.initial_delay_s)),
        period_seconds: Some(int(p.period_s)),
        timeout_seconds: Some(int(p.timeout_s)),
        failure_threshold: Some(int(p.failure_threshold)),
        success_threshold: Some(1),
        termination_grace_period_seconds: p.grace_s.map(i64::from),
        ..k8s_openapi::api::core::v1::Probe::default()
    }
}

fn get(path: &str) -> HTTPGetAction {
    HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String("http".to_owned()),
        ..HTTPGetAction::default()
    }
}

fn lifecycle(w: &Workload) -> Option<Lifecycle> {
    let hook = LifecycleHandler {
        sleep: w.pre_stop_sleep_s.map(|seconds| SleepAction {
            seconds: i64::from(seconds),
        }),
        exec: w.pre_stop_exec.clone().map(|command| ExecAction {
            command: Some(command),
        }),
        http_get: w.pre_stop_http.as_deref().map(get),
        ..LifecycleHandler::default()
    };
    let lifecycle = Lifecycle {
        pre_stop: (hook != LifecycleHandler::default()).then_some(hook),
        stop_signal: w.stop_signal.clone(),
        ..Lifecycle::default()
    };
    (lifecycle != Lifecycle::default()).then_some(lifecycle)
}

/// The switches of `zdt-lab app`: each field of the schema is the switch of its name.
pub(super) fn app_args(app: &App) -> Vec<String> {
    let any = if app.dual_stack { "[::]" } else { "0.0.0.0" };
    let mut args = vec!["--listen".to_owned(), format!("{any}:{}", app.port)];
    // A struct of plain fields always has a JSON form.
    let fields = serde_json::to_value(app).unwrap_or_default();
    for (name, value) in fields.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "port" | "dual_stack") {
            continue;
        }
        let switch = format!("--{}", name.replace('_', "-"));
        match value {
            serde_json::Value::Null | serde_json::Value::Bool(false) => {}
            serde_json::Value::Bool(true) => args.push(switch),
            serde_json::Value::String(word) => args.extend([switch, word.clone()]),
            other => args.extend([switch, other.to_string()]),
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Server {
        #[command(flatten)]
        args: crate::app::Args,
    }

    #[test]
    fn every_field_of_the_app_is_a_switch_of_the_server() {
        let set = |value: &serde_json::Value, name: &str| match value {
            serde_json::Value::Bool(_) => true.into(),
            serde_json::Value::Null if name == "on_sigquit" => "drain-first".into(),
            serde_json::Value::Null => 7.into(),
            other => other.clone(),
        };
        let fields = serde_json::to_value(App::default()).unwrap();
        let all: serde_json::Map<_, _> = fields
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), set(value, name)))
            .collect();
        let app: App = serde_json::from_value(all.into()).unwrap();
        let argv = ["app".to_owned()].into_iter().chain(app_args(&app));
        let server = Server::try_parse_from(argv).unwrap();
        assert_eq!(server.args.oom_after_ms, Some(7));
        assert!(server.args.errors_while_draining);
        assert_eq!(server.args.listen.port(), 8080);
    }

    #[test]
    fn a_native_sidecar_is_an_init_container_that_restarts() {
        let workload: Workload = serde_json::from_str(r#"{"sidecar": {"native": true}}"#).unwrap();
        let applied = Applied {
            name: "web".into(),
            workload,
            app: App::default(),
            proxy: None,
        };
        let pod = applied.template().spec.unwrap();
        let sidecar = &pod.init_containers.unwrap()[0];
        assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
        assert_eq!(pod.containers.len(), 1);
    }
}
