//! The watches against an API server that refuses, goes away and comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]
#![expect(clippy::disallowed_methods, reason = "a test wires what app.rs wires")]

mod api;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE};
use zdt_daemon::{
    cluster::{self, Change, KernelMaps, WatchError, Watched},
    input::{Input, Ktime, What},
};

use api::{Api, Store, pod};

/// Longer than any retry of the watches.
const PATIENCE: Duration = Duration::from_secs(20);

const HELD_UP: Duration = Duration::from_millis(1_500);

/// Instead of the kernel's maps, a list of what was put into them.
#[derive(Clone, Default)]
struct Kept {
    changes: Arc<Mutex<Vec<Change>>>,
    /// Told when the next change is held up.
    held_up: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Kept {
    /// The next change takes as long as in a kernel that is busy with others' programs. Returns what is told when it is here.
    fn hold_up_once(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        *self.held_up.lock().unwrap() = Some(tell);
        told
    }
}

impl KernelMaps for Kept {
    fn apply(&mut self, change: Change) -> Result<(), String> {
        self.changes.lock().unwrap().push(change);
        if let Some(tell) = self.held_up.lock().unwrap().take() {
            let _ = tell.send(());
            std::thread::sleep(HELD_UP);
        }
        Ok(())
    }
}

fn going(name: &str, ip: &str) -> serde_json::Value {
    let mut pod = pod(name, ip);
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    pod
}

struct Running {
    inputs: mpsc::Receiver<Input>,
    synced: oneshot::Receiver<()>,
    maps: Kept,
    task: JoinHandle<Result<(), WatchError>>,
    dir: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn watching(name: &str, addr: std::net::SocketAddr) -> Running {
    let dir = std::env::temp_dir().join(format!("zdt-test-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (client, url) = cluster::client(Some(&api::kubeconfig(&dir, addr))).await.unwrap();
    let (to, inputs) = mpsc::channel(64);
    let (tell, synced) = oneshot::channel();
    let maps = Kept::default();
    let task = tokio::spawn(cluster::watch(Watched {
        client,
        url,
        node: "n1".into(),
        node_addrs: Box::new(|| vec![IpAddr::from([192, 0, 2, 7])]),
        maps: Box::new(maps.clone()),
        stirred: watch::channel(Ktime::default()).1,
        to,
        synced: tell,
        reachable: Box::new(|_| {}),
    }));
    Running {
        inputs,
        synced,
        maps,
        task,
        dir,
    }
}

impl Running {
    /// The next input, but for the one that says that all lists are in.
    async fn next(&mut self) -> What {
        loop {
            let what = timeout(PATIENCE, self.inputs.recv()).await.unwrap().unwrap().what;
            if what != What::Synced {
                return what;
            }
        }
    }

    /// What is said of pods, until their watch is whole.
    async fn until_whole(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.next().await {
                What::WatchBroken { resource, .. } if resource == "pods" => said.push("broken".to_owned()),
                What::WatchGap { resource, .. } if resource == "pods" => {
                    said.push("whole".to_owned());
                    return said;
                }
                // Other resources' watches break too.
                What::WatchBroken { .. } | What::WatchGap { .. } => {}
                What::Pod(pod) => said.push(format!("+{}", pod.pod.name)),
                What::PodGone { uid } => said.push(format!("-{uid}")),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn pod(&mut self) -> String {
        match self.next().await {
            What::Pod(pod) => pod.pod.name,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pods_come_in_and_their_addresses_reach_the_kernel_before_them() {
    let store = Store::default();
    store.put("pods", pod("a", "10.0.0.1"));
    let server = Api::start(&store);
    let mut watched = watching("pods", server.addr).await;
    assert_eq!(watched.pod().await, "a");
    let local = Change::Addr {
        addr: IpAddr::from([10, 0, 0, 1]),
        bits: ADDR_LOCAL_POD,
    };
    let node = Change::Addr {
        addr: IpAddr::from([192, 0, 2, 7]),
        bits: ADDR_NODE,
    };
    let kept = watched.maps.changes.lock().unwrap().clone();
    assert!(kept.contains(&local) && kept.contains(&node), "{kept:?}");
    timeout(PATIENCE, &mut watched.synced).await.unwrap().unwrap();
    store.put("pods", pod("b", "10.0.0.2"));
    assert_eq!(watched.pod().await, "b");
    store.delete("pods", "a");
    assert!(matches!(watched.next().await, What::PodGone { uid } if uid.0 == "uid-a"));
}

#[tokio::test]
async fn server_that_goes_away_and_comes_back_leaves_a_gap_and_no_ghosts() {
    away_and_back("back", false).await;
}

#[tokio::test]
async fn expired_version_is_listed_anew_also_when_the_request_itself_is_refused() {
    away_and_back("gone", true).await;
}

async fn away_and_back(name: &str, gone_by_status: bool) {
    let store = Store::default();
    store.put("pods", pod("a", "10.0.0.1"));
    store.put("pods", pod("b", "10.0.0.2"));
    let server = Api::start(&store);
    let mut watched = watching(name, server.addr).await;
    assert_eq!(
        (watched.pod().await, watched.pod().await),
        ("a".into(), "b".into())
    );
    timeout(PATIENCE, &mut watched.synced).await.unwrap().unwrap();

    let addr = server.stop();
    store.delete("pods", "a");
    store.put("pods", pod("c", "10.0.0.3"));
    store.forget_history(gone_by_status);
    let _server = Api::start_at(addr, &store);

    let said = watched.until_whole().await;
    assert_eq!(
        said,
        ["broken", "+c", "-uid-a", "whole"],
        "b is unchanged and not said again"
    );
    assert!(!watched.task.is_finished());
}

#[tokio::test]
async fn watch_that_goes_on_without_a_new_list_is_whole_though_nothing_changed() {
    let store = Store::default();
    store.put("pods", pod("a", "10.0.0.1"));
    let server = Api::start(&store);
    let mut watched = watching("silent", server.addr).await;
    assert_eq!(watched.pod().await, "a");
    timeout(PATIENCE, &mut watched.synced).await.unwrap().unwrap();
    let addr = server.stop();
    // That of the pods: one that finds the server again at once has missed nothing, and says nothing.
    while !matches!(watched.next().await, What::WatchBroken { resource, .. } if resource == "pods") {}
    let _server = Api::start_at(addr, &store);
    assert_eq!(
        watched.until_whole().await.last().map(String::as_str),
        Some("whole")
    );
}

#[tokio::test]
async fn server_that_is_slow_to_answer_is_in_doubt_and_no_gap() {
    let store = Store::default();
    store.put("pods", going("a", "10.0.0.1"));
    store.slow(true);
    let server = Api::start(&store);
    let mut watched = watching("slow", server.addr).await;
    assert_eq!(watched.pod().await, "a");
    for _ in 0..4 {
        let doubted = watched.next().await;
        assert!(matches!(doubted, What::WatchBroken { .. }), "{doubted:?}");
    }
    store.slow(false);
    for _ in 0..4 {
        let whole = watched.next().await;
        assert!(matches!(whole, What::WatchWhole { .. }), "{whole:?}");
    }
}

#[tokio::test]
async fn what_came_while_zdt_was_held_up_is_late() {
    let store = Store::default();
    store.put("pods", pod("a", "10.0.0.1"));
    let server = Api::start(&store);
    let mut watched = watching("held-up", server.addr).await;
    assert_eq!(watched.pod().await, "a");
    timeout(PATIENCE, &mut watched.synced).await.unwrap().unwrap();
    let reached = watched.maps.hold_up_once();
    store.put("pods", going("a", "10.0.0.1"));
    timeout(PATIENCE, reached).await.unwrap().unwrap();
    store.put("pods", pod("b", "10.0.0.2"));
    assert_eq!(watched.until_whole().await, ["+a", "broken", "+b", "whole"]);
}

#[tokio::test]
async fn server_that_refuses_for_a_time_is_a_gap_and_no_end() {
    for status in [429, 500, 503] {
        let store = Store::default();
        store.put("pods", pod("a", "10.0.0.1"));
        let server = Api::start(&store);
        let mut watched = watching(&format!("refuses-{status}"), server.addr).await;
        assert_eq!(watched.pod().await, "a");
        timeout(PATIENCE, &mut watched.synced).await.unwrap().unwrap();
        store.refuse("pods", status);
        let _server = Api::start_at(server.stop(), &store);
        while !matches!(watched.next().await, What::WatchBroken { resource, .. } if resource == "pods") {}
        store.put("pods", pod("b", "10.0.0.2"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.serve("pods");
        assert_eq!(watched.until_whole().await, ["+b", "whole"], "{status}");
    }
}

#[tokio::test]
async fn server_that_is_not_there_yet_is_waited_for() {
    let store = Store::default();
    store.put("pods", pod("a", "10.0.0.1"));
    let addr = Api::start(&store).stop();
    let mut watched = watching("later", addr).await;
    assert!(
        timeout(Duration::from_millis(600), watched.inputs.recv())
            .await
            .is_err(),
        "nothing to say, and no end"
    );
    let _server = Api::start_at(addr, &store);
    assert_eq!(watched.pod().await, "a");
}

#[tokio::test]
async fn forbidden_list_ends_with_the_rule_that_is_missing() {
    let store = Store::default();
    store.refuse("endpointslices", 403);
    let server = Api::start(&store);
    let mut watched = watching("forbidden", server.addr).await;
    let error = timeout(PATIENCE, &mut watched.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]"),
        "{text}"
    );
}

#[tokio::test]
async fn unknown_credentials_end_with_advice() {
    let store = Store::default();
    store.refuse("pods", 401);
    let server = Api::start(&store);
    let mut watched = watching("unauthorized", server.addr).await;
    let error = timeout(PATIENCE, &mut watched.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("--kubeconfig"), "{error}");
}
