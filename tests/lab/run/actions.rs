//! What happens to the cluster while the client runs: one arm for each action of the schema.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::Pod,
};
use nix::sys::signal::Signal;

use super::{
    ingress::{Config, INGRESS, Ingress, PROXY},
    manifest::{Applied, Made},
    noise,
    objects::{CLIENT, NAMESPACE, WEB},
};
use crate::{
    api::Store,
    controllers,
    node::{Node, empty_conntrack, fill_conntrack, masquerade_ports},
    scenario::{Action, App, Kind, Manifest, Scenario, Step},
};

/// What `kubectl rollout restart` changes.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// A pod that is not Ready this long after it could be will not get so: it crashes, hangs or has no node.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(6);

/// Whoever operates the cluster: knows what it applied last.
pub(super) struct Operator {
    applied: Vec<Applied>,
    nodes: u8,
    ingress: Option<Ingress>,
}

impl Operator {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let web = Applied::new(WEB, &scenario.workload, &scenario.app);
        let beside = scenario.beside.iter();
        let beside = beside.map(|b| Applied::new(&b.name, &b.workload, &b.app));
        Self {
            applied: [web].into_iter().chain(beside).collect(),
            nodes: scenario.topology.nodes,
            ingress: None,
        }
    }

    /// Creates the proxy, which `ingress` keeps current from now on.
    pub(super) fn create_proxy(&mut self, store: &Store, config: &Config, ingress: Ingress) -> Result<()> {
        let proxy = Applied {
            name: PROXY.to_owned(),
            workload: config.proxy.workload.clone(),
            app: App::default(),
            proxy: Some(config.clone()),
        };
        proxy.create(store)?;
        self.applied.push(proxy);
        self.ingress = Some(ingress);
        Ok(())
    }

    /// Creates every workload.
    pub(super) fn create(&self, store: &Store) -> Result<()> {
        self.applied.iter().try_for_each(|applied| applied.create(store))
    }

    /// Whether every pod that serves is there and Ready.
    pub(super) fn all_ready(&self, store: &Store) -> bool {
        self.applied.iter().all(|applied| {
            let wanted = match applied.workload.kind {
                Kind::Job => 0,
                Kind::DaemonSet => self.nodes.into(),
                _ => applied.workload.replicas as usize,
            };
            let pods = pods(store, &applied.name);
            let ready = |pod: &&Pod| controllers::pods::active(pod) && controllers::pods::ready(pod);
            pods.iter().filter(ready).count() >= wanted
        })
    }

    /// Whether no pod terminates, and all are Ready that may be expected to get so.
    pub(super) fn settled(&self, store: &Store) -> bool {
        let patience = self.slowest_start().min(GIVEN_UP_AFTER) + GIVEN_UP_AFTER;
        let stays = |pod: &Pod| {
            pod.metadata.deletion_timestamp.is_none()
                && (controllers::pods::ready(pod) || controllers::pods::terminal(pod) || older(pod, patience))
        };
        let mut all = self.applied.iter();
        all.all(|applied| pods(store, &applied.name).iter().all(stays))
    }

    pub(super) fn longest_grace(&self) -> Duration {
        let graces = self.applied.iter().map(|applied| applied.workload.grace_s);
        Duration::from_secs(graces.max().unwrap_or(0).into())
    }

    /// What the slowest app and its probe ask for.
    pub(super) fn slowest_start(&self) -> Duration {
        let start = |applied: &Applied| {
            let delay = applied
                .workload
                .readiness
                .as_ref()
                .map_or(0, |p| p.initial_delay_s);
            let app = applied.app.start_delay_ms + applied.app.ready_after_ms;
            Duration::from_millis(app) + Duration::from_secs(delay.into())
        };
        self.applied.iter().map(start).max().unwrap_or_default()
    }

    /// `n` tells one rollout from the next.
    pub(super) async fn act(
        &mut self,
        store: &Store,
        nodes: &[Arc<Node>],
        action: &Action,
        n: usize,
    ) -> Result<()> {
        let node = nodes.first().context("no node")?;
        let name = action.on.as_deref().unwrap_or(WEB);
        let kind = self.find(name)?.workload.kind;
        match &action.what {
            Step::RollingUpdate => restart(store, name, kind, n)?,
            Step::Recreate => {
                self.find(name)?.workload.strategy = crate::scenario::Strategy::Recreate;
                let web = self.find(name)?.clone();
                store.update(namespace(name), name, |deployment: &mut Deployment| {
                    let spec = deployment.spec.get_or_insert_default();
                    let replicas = spec.replicas;
                    web.roll_as(spec);
                    spec.replicas = replicas;
                })?;
                restart(store, name, kind, n)?;
            }
            Step::Replace => {
                controllers::delete_deployment(store, namespace(name), name)?;
                let applied = self.find(name)?;
                let mut template = applied.template();
                let annotation = (RESTARTED_AT.to_owned(), format!("action {n}"));
                let metadata = template.metadata.get_or_insert_default();
                metadata.annotations.get_or_insert_default().extend([annotation]);
                if let Made::Deployment(deployment) = applied.made(namespace(name), template) {
                    store.create(deployment)?;
                }
            }
            Step::Apply(manifest) => self.apply(store, name, manifest)?,
            Step::Scale(replicas) => scale(store, name, kind, i32::try_from(*replicas)?)?,
            Step::Autoscale(replicas) => {
                let replicas = i32::try_from(*replicas)?;
                scale(store, name, kind, replicas)?;
                controllers::told_rescale(store, namespace(name), name, replicas);
            }
            Step::DeletePod => drop(controllers::delete_pod(
                store,
                namespace(name),
                &first(store, name)?,
                None,
            )?),
            Step::ForceDeletePod => {
                controllers::delete_pod(store, namespace(name), &first(store, name)?, Some(0))?;
            }
            Step::EvictPod => drop(controllers::evict(store, namespace(name), &first(store, name)?)?),
            Step::PreemptPod => drop(controllers::preempt(
                store,
                namespace(name),
                &first(store, name)?,
            )?),
            Step::RestartContainer => {
                let pod = first(store, name)?;
                let mut sent = false;
                for node in nodes {
                    sent |= node.signal(namespace(name), &pod, Signal::SIGTERM).await?;
                }
                if !sent {
                    bail!("restart-container: pod {pod} has no container");
                }
            }
            Step::DrainNode => controllers::drain(store, node.name(), |pod| {
                // The background is nobody's rollout.
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                name == CLIENT || name.starts_with(noise::PREFIX)
            })?,
            Step::CordonNode => controllers::set_schedulable(store, node.name(), false)?,
            Step::UncordonNode => controllers::set_schedulable(store, node.name(), true)?,
            Step::FillConntrack(seconds) => {
                let entries = fill_conntrack(node)?;
                tracing::info!("the conntrack table has {entries} entries");
                tokio::time::sleep(Duration::from_secs((*seconds).into())).await;
                empty_conntrack(node)?;
            }
            Step::MasqueradePorts(ports) => masquerade_ports(node, *ports)?,
            Step::ReloadProxy => self.ingress.as_ref().context("no proxy")?.reload(),
            Step::SwitchBackend(to) => self.ingress.as_ref().context("no proxy")?.switch(to),
            // The run's own.
            Step::Api(_) | Step::RestartDaemon(_) | Step::PauseDaemon(_) => {}
            Step::SwitchSelector(to) => controllers::switch_selector(store, NAMESPACE, WEB, to)?,
        }
        Ok(())
    }

    fn find(&mut self, name: &str) -> Result<&mut Applied> {
        let mut all = self.applied.iter_mut();
        all.find(|applied| applied.name == name)
            .with_context(|| format!("no workload {name}"))
    }

    /// `kubectl apply`: replicas, template and strategy as written, whoever changed them meanwhile.
    fn apply(&mut self, store: &Store, name: &str, manifest: &Manifest) -> Result<()> {
        let applied = self.find(name)?;
        if let Some(workload) = &manifest.workload {
            applied.workload = workload.clone();
        }
        if let Some(app) = &manifest.app {
            applied.app = app.clone();
        }
        let (template, replicas) = (applied.template(), i32::try_from(applied.workload.replicas)?);
        match applied.workload.kind {
            Kind::Deployment => {
                store.update(namespace(name), name, |deployment: &mut Deployment| {
                    let spec = deployment.spec.get_or_insert_default();
                    applied.roll_as(spec);
                    spec.template = template;
                })?;
            }
            Kind::StatefulSet => drop(store.update(namespace(name), name, |set: &mut StatefulSet| {
                let spec = set.spec.get_or_insert_default();
                let partition = i32::try_from(applied.workload.partition).ok();
                spec.update_strategy
                    .get_or_insert_default()
                    .rolling_update
                    .get_or_insert_default()
                    .partition = partition;
                spec.replicas = Some(replicas);
                spec.template = template;
            })?),
            Kind::DaemonSet => drop(store.update(namespace(name), name, |set: &mut DaemonSet| {
                set.spec.get_or_insert_default().template = template;
            })?),
            Kind::Job | Kind::Pods => bail!("the pods of {name} have no template that could be changed"),
        }
        Ok(())
    }
}

fn restart(store: &Store, name: &str, kind: Kind, n: usize) -> Result<()> {
    let key = RESTARTED_AT;
    let value = format!("action {n}");
    match kind {
        Kind::Deployment => {
            controllers::annotate_template::<Deployment>(store, namespace(name), name, key, &value)?;
        }
        Kind::StatefulSet => {
            controllers::annotate_template::<StatefulSet>(store, namespace(name), name, key, &value)?;
        }
        Kind::DaemonSet => {
            controllers::annotate_template::<DaemonSet>(store, namespace(name), name, key, &value)?;
        }
        Kind::Job | Kind::Pods => bail!("the pods of {name} have no template that could be changed"),
    }
    Ok(())
}

fn scale(store: &Store, name: &str, kind: Kind, replicas: i32) -> Result<()> {
    match kind {
        Kind::Deployment => drop(controllers::scale(store, namespace(name), name, replicas)?),
        Kind::StatefulSet => drop(store.update(namespace(name), name, |set: &mut StatefulSet| {
            set.spec.get_or_insert_default().replicas = Some(replicas);
        })?),
        _ => bail!("{name} cannot be scaled"),
    }
    Ok(())
}

/// The first pod of a workload that is not being deleted.
fn first(store: &Store, workload: &str) -> Result<String> {
    pods(store, workload)
        .into_iter()
        .find(|p| p.metadata.deletion_timestamp.is_none())
        .and_then(|p| p.metadata.name)
        .with_context(|| format!("no pod of {workload} is left"))
}

fn older(pod: &Pod, than: Duration) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let age = created.map(|created| Timestamp::now().duration_since(created));
    age.is_some_and(|age| Duration::try_from(age).is_ok_and(|age| age > than))
}

/// The namespace of a workload.
pub(super) fn namespace(workload: &str) -> &'static str {
    if workload == PROXY { INGRESS } else { NAMESPACE }
}

/// A workload's pods, in the order of names.
pub(super) fn pods(store: &Store, workload: &str) -> Vec<Pod> {
    let labels = controllers::objects::app(workload);
    let mut pods = store.list::<Pod>();
    pods.retain(|p| {
        p.metadata.namespace.as_deref() == Some(namespace(workload))
            && controllers::pods::selects(&labels, p.metadata.labels.as_ref())
    });
    pods
}
