//! `zdt-lab e2e` against a lab cluster with zdt installed: through the API alone, with real packets. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_zdt-lab");

/// `zdt-lab up`, ended with it.
struct Up {
    child: Child,
    kubeconfig: PathBuf,
}

impl Up {
    /// Rules that follow a second late, so that a rollout loses requests.
    fn start(out: &Path) -> Self {
        let zdt = Path::new(LAB).with_file_name("zdt");
        assert!(
            zdt.exists(),
            "no {}: cargo build -p zdt-daemon makes it",
            zdt.display()
        );
        let mut child = Command::new(LAB)
            .args(["up", "--rules-delay-ms", "1000", "--zdt"])
            .arg(zdt)
            .arg("--out")
            .arg(out)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "zdt-lab up ended before the cluster was there");
        let kubeconfig = line.trim().into();
        Self { child, kubeconfig }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    fn stop(mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn e2e(&self, more: &[&str]) -> Command {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut e2e = Command::new(LAB);
        e2e.args(["e2e", "--json", "--longer", "0", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .arg("--scenarios")
            .arg(scenarios)
            .args(more);
        e2e
    }

    async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.unwrap()).unwrap()
    }

    /// Namespaces, and `namespace/name` of the pods.
    async fn what_is_there(&self) -> (Vec<String>, Vec<String>) {
        let all = ListParams::default();
        let namespaces = Api::<Namespace>::all(self.client().await)
            .list(&all)
            .await
            .unwrap();
        let pods = Api::<Pod>::all(self.client().await).list(&all).await.unwrap();
        let namespaces = namespaces.items.into_iter().map(|n| n.metadata.name.unwrap());
        let pods = pods.items.into_iter().map(|p| p.metadata);
        (
            namespaces.collect(),
            pods.map(|p| format!("{}/{}", p.namespace.unwrap(), p.name.unwrap()))
                .collect(),
        )
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // After `stop` there is nothing left to signal.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("zdt-e2e-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[tokio::test]
async fn a_rolling_update_is_explained_through_the_api_alone_and_nothing_of_it_stays() {
    let out = folder("rolling");
    let up = Up::start(&out);

    let done = up
        .e2e(&["--scenario", "rolling-update-no-prestop"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let score: Value = serde_json::from_slice(&done.stdout).unwrap();
    let [one] = score["scenarios"].as_array().unwrap().as_slice() else {
        panic!("{score}")
    };
    assert!(one["failed"].as_u64().unwrap() > 50, "{one}");
    for what in ["recall", "precision", "cause_accuracy"] {
        assert_eq!(one[what].as_f64(), Some(1.0), "{what}: {one}\n{said}");
    }

    let (namespaces, pods) = up.what_is_there().await;
    assert_eq!(namespaces, ["zdt"]);
    assert!(pods.len() == 1 && pods[0].starts_with("zdt/zdt-"), "{pods:?}");
    up.stop();
    std::fs::remove_dir_all(out).unwrap();
}

#[tokio::test]
async fn nothing_stays_after_ctrl_c() {
    let out = folder("interrupted");
    let up = Up::start(&out);
    let mut e2e = up
        .e2e(&[
            "--scenario",
            "rolling-update-no-prestop",
            "--namespace",
            "try-out",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The load client is the last object of a scenario.
    while !up
        .what_is_there()
        .await
        .1
        .iter()
        .any(|pod| pod.starts_with("try-out-1/client-"))
    {
        assert!(matches!(e2e.try_wait(), Ok(None)), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    kill(Pid::from_raw(e2e.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(e2e.wait().unwrap().code(), Some(2));
    let (namespaces, pods) = up.what_is_there().await;
    assert_eq!(namespaces, ["zdt"]);
    assert_eq!(pods.len(), 1, "{pods:?}");
    up.stop();
    std::fs::remove_dir_all(out).unwrap();
}

#[tokio::test]
async fn what_a_cluster_cannot_express_is_skipped_with_the_reason() {
    let out = folder("skipped");
    let up = Up::start(&out);
    let done = up
        .e2e(&["--scenario", "drain", "--scenario", "client-outside"])
        .output()
        .unwrap();
    assert!(done.status.success());
    let score: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(score["scenarios"].as_array().unwrap().len(), 0);
    let skipped = score["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 2);
    assert!(
        skipped.iter().all(|one| !one["why"].as_str().unwrap().is_empty()),
        "{skipped:?}"
    );
    up.stop();
    std::fs::remove_dir_all(out).unwrap();
}
