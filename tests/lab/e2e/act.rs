//! What is done to the workloads while the client sends: one arm for each action that fits (fits.rs).

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{Pod, PodTemplateSpec, Service},
    },
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    objects::{self, Place},
};
use crate::{
    run::{
        manifest::{Applied, Made},
        objects::WEB,
    },
    scenario::{Action, Kind, Manifest, Scenario, Step, Strategy},
};

/// Whoever operates the cluster: knows what it applied last.
pub(super) struct Operator<'a> {
    cluster: &'a Cluster,
    applied: Vec<Applied>,
    image: &'a str,
    place: Place<'a>,
}

impl<'a> Operator<'a> {
    pub(super) fn new(cluster: &'a Cluster, scenario: &Scenario, image: &'a str, place: Place<'a>) -> Self {
        let web = Applied::new(WEB, &scenario.workload, &scenario.app);
        let beside = scenario.beside.iter();
        let beside = beside.map(|b| Applied::new(&b.name, &b.workload, &b.app));
        Self {
            cluster,
            applied: [web].into_iter().chain(beside).collect(),
            image,
            place,
        }
    }

    pub(super) fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// Creates every workload.
    pub(super) async fn create(&self) -> Result<()> {
        for applied in &self.applied {
            match applied.made(&self.cluster.namespace, self.template(applied)) {
                Made::Deployment(one) => self.create_one::<Deployment>(one).await?,
                Made::StatefulSet(one) => self.create_one::<StatefulSet>(one).await?,
                Made::DaemonSet(one) => self.create_one::<DaemonSet>(one).await?,
                Made::Job(one) => self.create_one::<Job>(one).await?,
                Made::Pods(pods) => {
                    for mut pod in pods {
                        // The server's to say.
                        pod.status = None;
                        self.create_one::<Pod>(pod).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn create_one<K>(&self, object: K) -> Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let created = self
            .cluster
            .api::<K>()
            .create(&PostParams::default(), &object)
            .await;
        created.map(drop).with_context(|| {
            format!(
                "cannot create {}",
                object.meta().name.as_deref().unwrap_or("an object")
            )
        })
    }

    fn template(&self, applied: &Applied) -> PodTemplateSpec {
        objects::template(applied, self.image, self.place)
    }

    pub(super) async fn act(&mut self, action: &Action) -> Result<()> {
        let name = action.on.as_deref().unwrap_or(WEB);
        let kind = self.find(name)?.workload.kind;
        let pods = self.cluster.api::<Pod>();
        match &action.what {
            Step::RollingUpdate => self.change(name, kind, &restart()).await?,
            Step::Recreate => {
                self.find(name)?.workload.strategy = Strategy::Recreate;
                let mut change = restart();
                set(
                    &mut change,
                    "strategy",
                    json!({"type": "Recreate", "rollingUpdate": null}),
                );
                self.change(name, kind, &change).await?;
            }
            Step::Apply(manifest) => self.apply(name, manifest).await?,
            Step::Scale(replicas) | Step::Autoscale(replicas) => {
                self.change(name, kind, &json!({"spec": {"replicas": replicas}}))
                    .await?;
            }
            Step::DeletePod => drop(
                pods.delete(&self.first(name).await?, &DeleteParams::default())
                    .await?,
            ),
            Step::ForceDeletePod => {
                let now = DeleteParams::default().grace_period(0);
                pods.delete(&self.first(name).await?, &now).await?;
            }
            Step::EvictPod => drop(
                pods.evict(&self.first(name).await?, &EvictParams::default())
                    .await?,
            ),
            Step::SwitchSelector(to) => {
                let change = json!({"spec": {"selector": {"app": to}}});
                merge(&self.cluster.api::<Service>(), WEB, &change).await?;
            }
            other => bail!("{other}: not for a cluster"),
        }
        Ok(())
    }

    fn find(&mut self, name: &str) -> Result<&mut Applied> {
        let mut all = self.applied.iter_mut();
        all.find(|applied| applied.name == name)
            .with_context(|| format!("no workload {name}"))
    }

    /// `kubectl apply`: replicas, template and strategy as written, whoever changed them meanwhile.
    async fn apply(&mut self, name: &str, manifest: &Manifest) -> Result<()> {
        let applied = self.find(name)?;
        if let Some(workload) = &manifest.workload {
            applied.workload = workload.clone();
        }
        if let Some(app) = &manifest.app {
            applied.app = app.clone();
        }
        let applied = applied.clone();
        let made = applied.made(&self.cluster.namespace, self.template(&applied));
        let spec = match made {
            Made::Deployment(one) => serde_json::to_value(one.spec)?,
            Made::StatefulSet(one) => serde_json::to_value(one.spec)?,
            Made::DaemonSet(one) => serde_json::to_value(one.spec)?,
            Made::Job(_) | Made::Pods(_) => {
                bail!("the pods of {name} have no template that could be changed")
            }
        };
        let mut change = json!({ "spec": spec });
        if let Some(strategy) = change
            .pointer_mut("/spec/strategy")
            .and_then(Value::as_object_mut)
        {
            // A merge would keep the numbers of the strategy before.
            strategy.entry("rollingUpdate").or_insert(Value::Null);
        }
        self.change(name, applied.workload.kind, &change).await
    }

    async fn change(&self, name: &str, kind: Kind, change: &Value) -> Result<()> {
        match kind {
            Kind::Deployment => merge(&self.cluster.api::<Deployment>(), name, change).await,
            Kind::StatefulSet => merge(&self.cluster.api::<StatefulSet>(), name, change).await,
            Kind::DaemonSet => merge(&self.cluster.api::<DaemonSet>(), name, change).await,
            Kind::Job | Kind::Pods => bail!("the pods of {name} have no template that could be changed"),
        }
    }

    /// The first pod of a workload that is not being deleted.
    async fn first(&self, workload: &str) -> Result<String> {
        let pods = self.cluster.pods(workload).await?;
        let mut staying = pods
            .into_iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none());
        let first = staying.find_map(|pod| pod.metadata.name);
        first.with_context(|| format!("no pod of {workload} is left"))
    }
}

async fn merge<K>(api: &Api<K>, name: &str, change: &Value) -> Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await;
    patched.map(drop).with_context(|| format!("cannot patch {name}"))
}

/// `kubectl rollout restart`
fn restart() -> Value {
    let at = Timestamp::now().to_string();
    json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}}}})
}

fn set(change: &mut Value, field: &str, to: Value) {
    if let Some(spec) = change.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert(field.to_owned(), to);
    }
}
