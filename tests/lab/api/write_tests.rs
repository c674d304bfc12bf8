//! Events from clients, with the real kube client.

use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::api::{ApiServer, Store, kubeconfig, serve};

async fn lab(store: &Store) -> (ApiServer, Client) {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = serve(store.clone(), std::net::TcpListener::bind(free).unwrap())
        .await
        .unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig(server.addr())).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
    (server, Client::try_from(config).unwrap())
}

fn event(name: &str, about: Option<&str>) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some("Pod".into()),
            namespace: about.map(str::to_owned),
            name: Some("web-1".into()),
            ..ObjectReference::default()
        },
        reason: Some("RequestsFailed".into()),
        ..Event::default()
    }
}

fn code(error: kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_client_creates_events_once_and_where_their_object_is() {
    let store = Store::new();
    let (_server, client) = lab(&store).await;
    let events = Api::<Event>::namespaced(client.clone(), "shop");
    let post = PostParams::default();
    let made = events.create(&post, &event("a", Some("shop"))).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(
        store.get::<Event>("shop", "a").unwrap().reason.as_deref(),
        Some("RequestsFailed")
    );
    let refused =
        async |name: &str, about| code(events.create(&post, &event(name, about)).await.unwrap_err());
    assert_eq!(refused("a", Some("shop")).await, 409);
    assert_eq!(refused("b", Some("other")).await, 422);
    assert_eq!(
        refused("b", None).await,
        422,
        "events of cluster-wide objects live in default"
    );
}

#[tokio::test]
async fn a_client_creates_no_pods() {
    let store = Store::new();
    let (_server, client) = lab(&store).await;
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(client, "shop");
    let mut pod = k8s_openapi::api::core::v1::Pod::default();
    pod.metadata.name = Some("a".into());
    let refused = pods.create(&PostParams::default(), &pod).await.unwrap_err();
    assert_eq!(code(refused), 403);
    assert_eq!(store.list::<k8s_openapi::api::core::v1::Pod>().len(), 0);
}

#[tokio::test]
async fn an_event_of_the_new_api_says_who_tells_it() {
    use k8s_openapi::api::events::v1::Event as NewEvent;
    let store = Store::new();
    let (_server, client) = lab(&store).await;
    let events = Api::<NewEvent>::namespaced(client, "shop");
    let mut event = NewEvent::default();
    event.metadata.generate_name = Some("web-1.".into());
    event.type_ = Some("Warning".into());
    event.reason = Some("RequestsFailed".into());
    event.action = Some("Judging".into());
    event.event_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(
        jiff::Timestamp::now(),
    ));
    let refused = events.create(&PostParams::default(), &event).await.unwrap_err();
    assert_eq!(code(refused), 422);
    event.reporting_controller = Some("zdt".into());
    event.reporting_instance = Some("n1".into());
    let made = events.create(&PostParams::default(), &event).await.unwrap();
    assert!(made.metadata.name.unwrap().starts_with("web-1."));
}
