//! Operators, with the real kube client.

use std::net::TcpListener;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, PodTemplateSpec, Service},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, EvictParams, LogParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use super::*;
use crate::api::{ApiServer, operator_kubeconfig, serve_operator};

async fn lab(store: &Store, token: Option<&str>) -> (ApiServer, Client) {
    let addresses = Addresses::of(0).unwrap();
    let powers = Powers::new(addresses, std::env::temp_dir()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let token = token.unwrap_or(powers.token());
    let text = operator_kubeconfig(listener.local_addr().unwrap(), token);
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.unwrap()).unwrap();
    (
        serve_operator(store.clone(), listener, powers).await.unwrap(),
        client,
    )
}

fn named<K: serde::de::DeserializeOwned>(name: &str) -> K {
    let spec = json!({"selector": {"app": name}, "containers": [{"name": "c"}]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    }
}

/// With namespace `e2e`.
async fn ready_lab(store: &Store) -> (ApiServer, Client) {
    let (server, client) = lab(store, None).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    let made: Namespace = serde_json::from_value(json!({"metadata": {"name": "e2e"}})).unwrap();
    namespaces.create(&PostParams::default(), &made).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn nobody_operates_without_the_token() {
    let store = Store::new();
    let (_server, client) = lab(&store, Some("0123")).await;
    let pods = Api::<Pod>::namespaced(client, "e2e");
    assert_eq!(code(pods.create(&PostParams::default(), &named("a")).await), 401);
    assert_eq!(code(pods.get("a").await), 401);
}

#[tokio::test]
async fn services_get_an_address_of_their_own_and_objects_need_a_namespace() {
    let store = Store::new();
    let (_server, client) = ready_lab(&store).await;
    let post = PostParams::default();
    let services = Api::<Service>::namespaced(client.clone(), "e2e");
    let ip = |service: Service| service.spec.unwrap().cluster_ip.unwrap();
    let a = ip(services.create(&post, &named("a")).await.unwrap());
    let b = ip(services.create(&post, &named("b")).await.unwrap());
    assert_eq!((a.as_str(), b.as_str()), ("10.96.0.64", "10.96.0.65"));
    assert_eq!(code(services.create(&post, &named("a")).await), 409);
    let elsewhere = Api::<Service>::namespaced(client, "nowhere");
    assert_eq!(code(elsewhere.create(&post, &named("a")).await), 404);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let store = Store::new();
    let (_server, client) = ready_lab(&store).await;
    let deployments = Api::<Deployment>::namespaced(client, "e2e");
    let made = controllers::deployment("e2e", "web", 3, PodTemplateSpec::default());
    deployments.create(&PostParams::default(), &made).await.unwrap();
    let change = json!({"spec": {"replicas": 2, "selector": {"matchLabels": null}}});
    let how = PatchParams::default();
    let spec = deployments
        .patch("web", &how, &Patch::Merge(&change))
        .await
        .unwrap();
    let spec = spec.spec.unwrap();
    assert_eq!((spec.replicas, spec.selector.match_labels), (Some(2), None));
    assert_eq!(
        store.get::<Deployment>("e2e", "web").unwrap().metadata.generation,
        Some(2)
    );
    assert_eq!(
        code(deployments.patch("web", &how, &Patch::Strategic(&change)).await),
        415
    );
    let wrong = json!({"spec": {"replicas": "many"}});
    assert_eq!(
        code(deployments.patch("web", &how, &Patch::Merge(&wrong)).await),
        422
    );
}

#[tokio::test]
async fn pods_are_deleted_with_their_grace_evicted_and_forced() {
    let store = Store::new();
    let (_server, client) = ready_lab(&store).await;
    let pods = Api::<Pod>::namespaced(client, "e2e");
    for name in ["a", "b", "c"] {
        let mut pod: Pod = named(name);
        pod.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    pods.evict("b", &EvictParams::default()).await.unwrap();
    pods.delete("c", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let pod = |name| store.get::<Pod>("e2e", name);
    assert_eq!(pod("a").unwrap().metadata.deletion_grace_period_seconds, Some(30));
    let evicted = pod("b").unwrap();
    assert!(evicted.metadata.deletion_timestamp.is_some());
    assert_eq!(
        evicted.status.unwrap().conditions.unwrap()[0].type_,
        "DisruptionTarget"
    );
    assert!(pod("c").is_none());
}

#[tokio::test]
async fn logs_are_those_of_the_pods_containers_and_of_no_other_file() {
    let store = Store::new();
    let (_server, client) = ready_lab(&store).await;
    let pods = Api::<Pod>::namespaced(client, "e2e");
    let name = format!("zdt-log-{}", std::process::id());
    pods.create(&PostParams::default(), &named(&name)).await.unwrap();
    assert_eq!(code(pods.logs(&name, &LogParams::default()).await), 400);
    let file = std::env::temp_dir().join(format!("{name}.c.log"));
    std::fs::write(&file, "said\n").unwrap();
    let log = pods.logs(&name, &LogParams::default()).await;
    std::fs::remove_file(file).unwrap();
    assert_eq!(log.unwrap(), "said\n");
    let other = LogParams {
        container: Some("../etc/passwd".to_owned()),
        ..LogParams::default()
    };
    assert_eq!(code(pods.logs(&name, &other).await), 400);
    assert_eq!(code(pods.logs("nobody", &LogParams::default()).await), 404);
}

#[tokio::test]
async fn a_namespace_ends_when_its_last_pod_has() {
    let store = Store::new();
    let (_server, client) = ready_lab(&store).await;
    let controller = tokio::task::JoinSet::from_iter([controllers::end_namespaces(store.clone())]);
    let pods = Api::<Pod>::namespaced(client.clone(), "e2e");
    let mut pod: Pod = named("a");
    pod.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete("e2e", &DeleteParams::default()).await.unwrap();
    let mut changes = store.watch::<Pod>();
    while store
        .get::<Pod>("e2e", "a")
        .unwrap()
        .metadata
        .deletion_timestamp
        .is_none()
    {
        changes.next().await.unwrap();
    }
    assert!(namespaces.get_opt("e2e").await.unwrap().is_some());
    assert_eq!(code(pods.create(&PostParams::default(), &named("b")).await), 403);
    // The kubelet's word.
    store.remove::<Pod>("e2e", "a").unwrap();
    let mut ends = store.watch::<Namespace>();
    while store.get::<Namespace>("", "e2e").is_some() {
        ends.next().await.unwrap();
    }
    drop(controller);
}
