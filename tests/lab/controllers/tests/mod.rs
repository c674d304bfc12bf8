//! A cluster of all controllers with a kubelet of the tests' own.

mod rollouts;
mod slices;
mod workloads;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy, ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodIP, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::api::{Change, Watch};

const READY_AFTER: Delay = Delay::ms(5, 40);
const GONE_AFTER: Delay = Delay::ms(10, 60);

/// A cluster whose kubelet makes pods Ready and ends terminating ones. All tasks end when it is dropped.
struct Cluster {
    store: Store,
    _tasks: JoinSet<()>,
}

fn cluster(seed: u64) -> Cluster {
    cluster_with(Settings::new(seed, &["n1", "n2"]))
}

fn cluster_with(settings: Settings) -> Cluster {
    let store = Store::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(kubelet(store.clone(), settings.seed));
    tasks.spawn(run(store.clone(), settings));
    Cluster { store, _tasks: tasks }
}

async fn kubelet(store: Store, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut pods = store.watch::<Pod>();
    let mut started = BTreeMap::new();
    let mut tasks = JoinSet::new();
    while let Some(change) = pods.next().await {
        let Change::Applied(pod) = change else { continue };
        let (namespace, name) = pods::key(&pod.metadata);
        // A StatefulSet's pod comes back under its name.
        let uid = pod.metadata.uid.clone().unwrap();
        let scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let stage = started.entry(uid.clone()).or_insert(0);
        if scheduled && *stage == 0 {
            *stage = 1;
            let ip = format!("10.0.{}.{}", rng.u8(..), rng.u8(1..));
            let (store, delay) = (store.clone(), READY_AFTER.draw(&mut rng));
            let (namespace, name) = (namespace.clone(), name.clone());
            tasks.spawn(async move {
                let running = |pod: &mut Pod| {
                    let status = pod.status.get_or_insert_default();
                    status.phase = Some("Running".into());
                    status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
                    status.pod_ip = Some(ip);
                    set_ready(pod, false);
                };
                let _gone = store.update(&namespace, &name, running);
                tokio::time::sleep(delay).await;
                let _gone = store.update(&namespace, &name, |pod: &mut Pod| {
                    if !pods::terminating(pod) {
                        set_ready(pod, true);
                    }
                });
            });
        }
        let stage = started.entry(uid.clone()).or_insert(0);
        if pods::terminating(&pod) && *stage < 2 {
            *stage = 2;
            let (store, delay) = (store.clone(), GONE_AFTER.draw(&mut rng));
            tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                let _gone = store.update(&namespace, &name, |pod: &mut Pod| {
                    pod.status.get_or_insert_default().phase = Some("Succeeded".into());
                    set_ready(pod, false);
                });
                tokio::time::sleep(delay).await;
                let _gone = store.remove::<Pod>(&namespace, &name);
            });
        }
    }
}

fn set_ready(pod: &mut Pod, ready: bool) {
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Ready");
    conditions.push(PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    });
}

fn web(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let value = |text: &str| {
        text.parse()
            .map_or(IntOrString::String(text.into()), IntOrString::Int)
    };
    let mut web = deployment(
        "shop",
        "web",
        replicas,
        pod_template("server", "lab/server:1", 8080),
    );
    web.spec.as_mut().unwrap().strategy = Some(DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(value(surge)),
            max_unavailable: Some(value(unavailable)),
        }),
    });
    web
}

/// The pods as a watch shows them, checked at each change.
struct Observed {
    watch: Watch<Pod>,
    pods: BTreeMap<String, Pod>,
}

impl Observed {
    fn new(store: &Store) -> Self {
        Self {
            watch: store.watch(),
            pods: BTreeMap::new(),
        }
    }

    fn active(&self) -> Vec<&Pod> {
        self.pods.values().filter(|pod| pods::active(pod)).collect()
    }

    fn available(&self) -> usize {
        self.active().iter().filter(|pod| pods::ready(pod)).count()
    }

    fn of_hash(&self, hash: &str) -> usize {
        let labels = |pod: &Pod| pod.metadata.labels.clone().unwrap_or_default();
        self.active()
            .iter()
            .filter(|pod| labels(pod)[pods::POD_TEMPLATE_HASH] == hash && pods::ready(pod))
            .count()
    }

    /// Follows changes until `done`; `check` sees every state on the way. Fails after 20 s.
    async fn until(&mut self, check: impl Fn(&Self), done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            let next = tokio::time::timeout_at(end, self.watch.next()).await;
            let Ok(change) = next else {
                panic!("still not there: {:#?}", self.pods.keys())
            };
            match change.unwrap() {
                Change::Applied(pod) => self.pods.insert(pod.metadata.name.clone().unwrap(), pod),
                Change::Deleted(pod) => self.pods.remove(pod.metadata.name.as_ref().unwrap()),
            };
            check(self);
        }
    }
}

/// Waits until the Deployment says that its rollout is complete; returns its new template hash.
async fn complete(store: &Store) -> String {
    let mut deployments = store.watch::<Deployment>();
    let wait = async {
        loop {
            let Some(Change::Applied(web)) = deployments.next().await else {
                continue;
            };
            let status = web.status.unwrap_or_default();
            let progressing = status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == "Progressing");
            let reason = progressing.and_then(|condition| condition.reason.as_deref());
            if status.observed_generation == web.metadata.generation
                && reason == Some("NewReplicaSetAvailable")
            {
                return names::template_hash(&web.spec.unwrap().template);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the rollout did not complete")
}
