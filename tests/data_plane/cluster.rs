//! A world with a Deployment of three pods, a Service, and a client pod.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{HTTPGetAction, Lifecycle, LifecycleHandler, Pod, Probe, SleepAction},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::task::JoinHandle;
use zdt_lab::{
    api::store::{Change, Store, begin_deletion},
    clock::monotonic_ns,
    controllers,
    net::{Slot, fitting},
    node::{Backend, CgroupDriver, Settings, Timings, proxy::Family},
    times::{Times, What},
    truth::Truth,
    world::World,
};

pub struct Cluster {
    world: World,
    control_plane: JoinHandle<()>,
    out: PathBuf,
    target: SocketAddr,
}

/// What a test varies.
pub struct Shape {
    pub backend: Backend,
    pub driver: CgroupDriver,
    pub timings: Timings,
    /// Arguments of the test server.
    pub app: &'static [&'static str],
    pub pre_stop_s: Option<i64>,
    pub grace_s: i64,
    /// The Service's address is of this family.
    pub v6: bool,
    /// externalTrafficPolicy: Local
    pub local: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            backend: Backend::Nft,
            driver: CgroupDriver::Cgroupfs,
            timings: Timings::default(),
            app: &["--on-sigterm", "close-listener"],
            pre_stop_s: None,
            grace_s: 30,
            v6: false,
            local: false,
        }
    }
}

impl Cluster {
    pub async fn start(shape: Shape) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "zdt-data-plane-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let out = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&out).unwrap();
        let slot = Slot::take(fitting()).await.unwrap();
        let ip = slot.addresses().service(80, shape.v6);
        let store = Store::new();
        let mut settings = Settings::new(env!("CARGO_BIN_EXE_zdt-lab").into(), out.clone());
        settings.backend = shape.backend;
        settings.cgroup_driver = shape.driver;
        settings.timings = shape.timings;
        let world = World::start(slot, store.clone(), settings).unwrap_or_else(|e| panic!("no world: {e}"));
        let control = controllers::Settings::new(1, &["n1"]);
        let control_plane = tokio::spawn(controllers::run(store.clone(), control));
        let cluster = Self {
            target: SocketAddr::new(ip, 80),
            world,
            control_plane,
            out,
        };
        let mut template = controllers::pod_template("app", "zdt-lab", 8080);
        let spec = template.spec.as_mut().unwrap();
        spec.termination_grace_period_seconds = Some(shape.grace_s);
        let container = &mut spec.containers[0];
        container.args = Some(shape.app.iter().map(|a| (*a).to_owned()).collect());
        container.command = Some(vec!["zdt-lab".to_owned(), "app".to_owned()]);
        container.readiness_probe = Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/ready".into()),
                port: IntOrString::Int(8080),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(1),
            ..Probe::default()
        });
        container.lifecycle = shape.pre_stop_s.map(|seconds| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        });
        store
            .create(controllers::deployment("default", "web", 3, template))
            .unwrap();
        let target = IntOrString::Int(8080);
        let mut service = controllers::service("default", "web", ip, 80, target, Some(30080));
        if shape.local {
            service.spec.as_mut().unwrap().external_traffic_policy = Some("Local".into());
        }
        store.create(service).unwrap();
        cluster.create_client();
        cluster.wait_for_endpoints(3).await;
        cluster.wait_for_rules(Family::of(ip), 3).await;
        cluster
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    fn create_client(&self) {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "default", "name": "client"},
            "spec": {
                "nodeName": "n1",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "client", "command": ["zdt-lab", "pause"]}],
            }
        }));
        self.world.store().create::<Pod>(pod.unwrap()).unwrap();
    }

    /// Waits until the slices have exactly this many ready endpoints.
    async fn wait_for_endpoints(&self, wanted: usize) {
        let mut watch = self.world.store().watch::<EndpointSlice>();
        loop {
            let Some(Change::Applied(slice)) = watch.next().await else {
                continue;
            };
            let ready = slice
                .endpoints
                .iter()
                .filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)));
            if ready.count() == wanted {
                return;
            }
        }
    }

    /// Waits until kube-proxy's last sync routes to this many endpoints.
    async fn wait_for_rules(&self, family: Family, wanted: usize) {
        loop {
            let last = Times::read(&self.out)
                .unwrap()
                .into_iter()
                .rev()
                .find_map(|line| match line.what {
                    What::Sync(sync) if sync.family == family => Some(sync.endpoints),
                    _ => None,
                });
            if last.is_some_and(|s| s.values().all(|e| e.len() == wanted) && !s.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn client_netns(&self) -> String {
        let mut watch = self.world.store().watch::<Pod>();
        loop {
            let Some(Change::Applied(pod)) = watch.next().await else {
                continue;
            };
            let ip = pod.status.and_then(|s| s.pod_ip);
            if pod.metadata.name.as_deref() == Some("client") && ip.is_some() {
                return self.world.node().unwrap().pod_netns("default", "client").unwrap();
            }
        }
    }

    /// Load from the client pod on the ClusterIP.
    pub async fn load(&self, name: &str, args: &[&str]) -> Truth {
        let netns = self.client_netns().await;
        self.load_in(&netns, name, &self.target.to_string(), args).await
    }

    /// Load from outside of the cluster on the NodePort.
    pub async fn load_from_outside(&self, args: &[&str]) -> Truth {
        let target = format!("{}:30080", self.world.node().unwrap().net().ip());
        self.load_in(self.world.outside(), "outside", &target, args).await
    }

    async fn load_in(&self, netns: &str, name: &str, target: &str, args: &[&str]) -> Truth {
        let truth = self.out.join(format!("{name}.truth.jsonl"));
        let log = self.out.join(format!("{name}.log"));
        let mut words = vec![env!("CARGO_BIN_EXE_zdt-lab"), "client", "--target", target];
        words.extend(["--truth", truth.to_str().unwrap()]);
        words.extend(args);
        let command = words.into_iter().map(str::to_owned).collect();
        let process = self
            .world
            .node()
            .unwrap()
            .spawn(netns, command, Vec::new(), &log)
            .await
            .unwrap();
        let exit = process.wait().await;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        eprintln!("{}", text.trim());
        assert_eq!(exit.code, 0, "the client failed");
        Truth::read(&truth).unwrap()
    }

    /// Deletes one pod; returns when, as CLOCK_MONOTONIC nanoseconds.
    pub async fn delete_a_pod_after(&self, delay: Duration) -> u64 {
        tokio::time::sleep(delay).await;
        let pods = self.world.store().list::<Pod>();
        let name = pods
            .iter()
            .filter_map(|p| p.metadata.name.clone())
            .find(|n| n.starts_with("web-"))
            .unwrap();
        begin_deletion(self.world.store(), "default", &name, None).unwrap();
        monotonic_ns()
    }

    /// Everything that the watch says about one pod of the Deployment from now on, until `last` holds, with the time
    /// since now in milliseconds.
    pub async fn follow_a_pod(
        &self,
        act: impl AsyncFnOnce(&str),
        last: impl Fn(&Change<Pod>) -> bool,
    ) -> Vec<(f64, Change<Pod>)> {
        let pods = self.world.store().list::<Pod>();
        let name = pods
            .iter()
            .filter_map(|p| p.metadata.name.clone())
            .find(|n| n.starts_with("web-"))
            .unwrap();
        let mut watch = self.world.store().watch::<Pod>();
        let began = monotonic_ns();
        act(&name).await;
        let mut seen = Vec::new();
        loop {
            let change = watch.next().await.unwrap();
            let (Change::Applied(pod) | Change::Deleted(pod)) = &change;
            if pod.metadata.name.as_ref() == Some(&name) {
                let over = last(&change);
                seen.push(((monotonic_ns() - began) as f64 / 1e6, change));
                if over {
                    return seen;
                }
            }
        }
    }

    pub async fn scale_to_nothing(&self) {
        controllers::scale(self.world.store(), "default", "web", 0).unwrap();
        self.wait_for_rules(Family::V4, 0).await;
    }

    /// Ends the world and checks that nothing of it stays.
    pub async fn stop(self) {
        let prefix = format!("zl{}-", self.world.run().id());
        self.control_plane.abort();
        self.world.stop().await;
        let left: Vec<_> = std::fs::read_dir("/run/netns")
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let _ = std::fs::remove_dir_all(&self.out);
    }
}
