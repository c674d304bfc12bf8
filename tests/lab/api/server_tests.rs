//! The API server against the real kube client: what the daemon will do with it.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::api::kubeconfig;

/// An explicitly bound port, as the lab has it (see [`serve`]).
fn listener() -> TcpListener {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    TcpListener::bind(free).unwrap()
}

async fn lab(store: &Store) -> (ApiServer, Client) {
    let server = serve(store.clone(), listener()).await.unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig(server.addr())).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    (server, Client::try_from(config).unwrap())
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some("shop".into()),
        labels: Some([("app".to_owned(), name.to_owned())].into()),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        spec: Some(PodSpec {
            node_name: node.map(str::to_owned),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn touch(store: &Store, name: &str, value: &str) {
    store
        .update::<Pod>("shop", name, |pod| {
            pod.metadata
                .annotations
                .get_or_insert_default()
                .insert("touch".into(), value.into());
        })
        .unwrap();
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Pod>>> + Send>>;

/// The next event within 10 s, skipping the errors that the watcher reports while it retries.
async fn next(events: &mut Events) -> Event<Pod> {
    let wait = async {
        loop {
            match events.next().await.unwrap() {
                Ok(event) => return event,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
}

async fn relist(events: &mut Events) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match next(events).await {
            Event::Init => names.clear(),
            Event::InitApply(pod) => names.push(name(&pod).to_owned()),
            Event::InitDone => return names,
            // Changes that were delivered before the fault.
            Event::Apply(_) | Event::Delete(_) => {}
        }
    }
}

async fn follows_changes_and_faults(config: watcher::Config) {
    let store = Store::new();
    store.create(pod("a", Some("n1"))).unwrap();
    let (server, client) = lab(&store).await;
    let mut events: Events = Box::pin(watcher(Api::<Pod>::all(client), config));
    assert_eq!(relist(&mut events).await, ["a"]);

    store.create(pod("b", Some("n1"))).unwrap();
    assert!(matches!(next(&mut events).await, Event::Apply(pod) if name(&pod) == "b"));
    store.remove::<Pod>("shop", "a").unwrap();
    assert!(matches!(next(&mut events).await, Event::Delete(pod) if name(&pod) == "a"));

    // What happens while the server is away is seen after it, with nothing lost.
    server.go_away().await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.addr()).await.is_err());
    store.create(pod("c", Some("n1"))).unwrap();
    server.come_back().unwrap();
    assert!(matches!(next(&mut events).await, Event::Apply(pod) if name(&pod) == "c"));

    // A running watch ends with 410 and the client lists again.
    server.forget_history();
    assert_eq!(relist(&mut events).await, ["b", "c"]);
    // Away, and too old when it comes back: 410 at the start of the watch.
    server.go_away().await.unwrap();
    store.remove::<Pod>("shop", "b").unwrap();
    server.forget_history();
    server.come_back().unwrap();
    assert_eq!(relist(&mut events).await, ["c"]);
    touch(&store, "c", "1");
    assert!(matches!(next(&mut events).await, Event::Apply(pod) if name(&pod) == "c"));
}

#[tokio::test]
async fn kube_watcher_survives_faults_with_list_and_watch() {
    follows_changes_and_faults(watcher::Config::default()).await;
}

#[tokio::test]
async fn kube_watcher_survives_faults_with_a_streaming_list() {
    follows_changes_and_faults(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn lists_and_gets_select_and_fail_as_the_real_server_does() {
    let store = Store::new();
    store.create(pod("a", Some("n1"))).unwrap();
    store.create(pod("b", Some("n2"))).unwrap();
    let (_server, client) = lab(&store).await;
    let pods = Api::<Pod>::namespaced(client.clone(), "shop");
    let list = async |params: ListParams| {
        let list = pods.list(&params).await.unwrap();
        list.items
            .iter()
            .map(|pod| name(pod).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(ListParams::default()).await, ["a", "b"]);
    assert_eq!(
        list(ListParams::default().fields("spec.nodeName=n2")).await,
        ["b"]
    );
    assert_eq!(list(ListParams::default().fields("metadata.name=a")).await, ["a"]);
    assert_eq!(list(ListParams::default().labels("app=b")).await, ["b"]);
    assert_eq!(list(ListParams::default().labels("app!=b,app")).await, ["a"]);
    assert_eq!(list(ListParams::default().labels("!app")).await, [""; 0]);
    assert!(
        Api::<Pod>::namespaced(client.clone(), "other")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        Api::<ReplicaSet>::all(client.clone())
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        Api::<Node>::all(client.clone())
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(name(&pods.get("a").await.unwrap()), "a");

    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    };
    assert_eq!(code(pods.get("zz").await.unwrap_err()), (404, "NotFound".into()));
    let odd = ListParams::default().fields("spec.hostname=x");
    assert_eq!(
        code(pods.list(&odd).await.unwrap_err()),
        (400, "BadRequest".into())
    );
    let old = ListParams::default()
        .at("1")
        .matching(kube::api::VersionMatch::Exact);
    assert_eq!(code(pods.list(&old).await.unwrap_err()), (410, "Expired".into()));
    assert_eq!(
        code(
            pods.delete("a", &kube::api::DeleteParams::default())
                .await
                .unwrap_err()
        )
        .0,
        405
    );
    assert_eq!(client.apiserver_version().await.unwrap().minor, "33");
    let groups: Vec<String> = client
        .list_api_groups()
        .await
        .unwrap()
        .groups
        .into_iter()
        .map(|g| g.name)
        .collect();
    assert_eq!(groups, ["apps", "batch", "discovery.k8s.io", "events.k8s.io"]);
    assert!(
        client
            .list_core_api_resources("v1")
            .await
            .unwrap()
            .resources
            .iter()
            .any(|r| r.name == "pods")
    );
}

/// By hand: kube's client repeats a 504 for minutes.
#[tokio::test]
async fn a_version_from_the_future_is_a_504() {
    let (server, _) = lab(&Store::new()).await;
    let mut stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    let request = "GET /api/v1/pods?resourceVersion=999 HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(
        answer.contains("Too large resource version: 999, current: 1"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_watch_with_a_field_selector_adds_and_deletes_what_starts_and_stops_to_match() {
    let store = Store::new();
    store.create(pod("a", None)).unwrap();
    let version = store.version().to_string();
    let (_server, client) = lab(&store).await;
    let params = WatchParams::default().fields("spec.nodeName=n1").timeout(10);
    let pods = Api::<Pod>::all(client);
    let mut events = Box::pin(pods.watch(&params, &version).await.unwrap());
    let schedule = |node: &str| {
        store
            .update::<Pod>("shop", "a", |pod| {
                pod.spec.get_or_insert_default().node_name = Some(node.into());
            })
            .unwrap();
    };
    schedule("n1");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
    touch(&store, "a", "1");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(_)))));
    schedule("n2");
    let now = store.version().to_string();
    // The last state that matched, with the version of the change that ended it.
    let Some(Ok(WatchEvent::Deleted(last))) = events.next().await else {
        panic!("DELETED")
    };
    assert_eq!(last.spec.unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(last.metadata.resource_version, Some(now));
    touch(&store, "a", "2");
    schedule("n1");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
    store.remove::<Pod>("shop", "a").unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Deleted(_)))));
}

#[tokio::test]
async fn bookmarks_move_the_version_on_and_a_watch_ends_at_its_timeout() {
    let store = Store::new();
    let version = store.version().to_string();
    let (server, client) = lab(&store).await;
    server.set_bookmark_every(Duration::from_millis(50));
    let pods = Api::<Pod>::all(client);
    let mut events = Box::pin(
        pods.watch(&WatchParams::default().timeout(1), &version)
            .await
            .unwrap(),
    );
    // Only another kind changes: without a bookmark this client's version would stay behind.
    store
        .create(ReplicaSet {
            metadata: pod("rs", None).metadata,
            ..ReplicaSet::default()
        })
        .unwrap();
    let mut bookmarks = Vec::new();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            WatchEvent::Bookmark(bookmark) => bookmarks.push(bookmark.metadata.resource_version),
            other => panic!("{other:?}"),
        }
    }
    assert!(bookmarks.len() > 3, "{bookmarks:?}");
    assert_eq!(bookmarks.last(), Some(&store.version().to_string()));
}

#[tokio::test]
async fn an_old_version_is_a_410_error_event_at_the_start_of_a_watch() {
    let store = Store::new();
    let version = store.version().to_string();
    let (server, client) = lab(&store).await;
    server.forget_history();
    let pods = Api::<Pod>::all(client);
    let mut events = Box::pin(pods.watch(&WatchParams::default(), &version).await.unwrap());
    let Some(Ok(WatchEvent::Error(status))) = events.next().await else {
        panic!("ERROR")
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn events_arrive_within_milliseconds_or_as_late_as_a_test_wants() {
    let store = Store::new();
    store.create(pod("a", Some("n1"))).unwrap();
    let version = store.version().to_string();
    let (server, client) = lab(&store).await;
    let pods = Api::<Pod>::all(client);
    let mut events = Box::pin(pods.watch(&WatchParams::default(), &version).await.unwrap());
    let mut latency = async |value: String| {
        let start = tokio::time::Instant::now();
        touch(&store, "a", &value);
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(_)))));
        start.elapsed()
    };
    let mut prompt = Vec::new();
    for step in 0..50 {
        prompt.push(latency(step.to_string()).await);
    }
    prompt.sort_unstable();
    // The median, because other work may have the processor now and then. A Nagle delay would be 40 ms on each.
    assert!(prompt[25] < Duration::from_millis(10), "{prompt:?}");
    server.set_watch_delay(Duration::from_millis(150));
    assert!(latency("late".into()).await >= Duration::from_millis(150));
}
