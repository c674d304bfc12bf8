//! What the slices say while pods come and go.

use super::*;

/// One endpoint's life in the slice: (ready, serving, terminating, has a trigger time).
type Said = (bool, bool, bool, bool);

#[tokio::test]
async fn a_slice_follows_the_life_of_a_pod_and_terminating_has_no_trigger_time() {
    let cluster = cluster(8);
    let store = &cluster.store;
    store
        .create(service(
            "shop",
            "web",
            "10.96.0.10".parse().unwrap(),
            80,
            IntOrString::String("http".into()),
            Some(30080),
        ))
        .unwrap();
    store.create(web(1, "1", "0")).unwrap();
    complete(store).await;
    let name = store.list::<Pod>()[0].metadata.name.clone().unwrap();
    let mut slices = store.watch::<EndpointSlice>();
    let mut next = async || loop {
        let (at, Change::Applied(slice)) = slices.next_timed().await.unwrap() else {
            continue;
        };
        return (at, slice);
    };
    let about = |slice: &EndpointSlice| -> Option<Said> {
        let trigger = slice
            .metadata
            .annotations
            .iter()
            .flatten()
            .any(|(key, _)| key == endpointslice::TRIGGER_TIME);
        let endpoint = slice
            .endpoints
            .iter()
            .find(|e| e.target_ref.as_ref().unwrap().name.as_ref() == Some(&name))?;
        let conditions = endpoint.conditions.clone().unwrap();
        Some((
            conditions.ready.unwrap(),
            conditions.serving.unwrap(),
            conditions.terminating.unwrap(),
            trigger,
        ))
    };
    // Wait until the slice has the ready pod.
    let ready = loop {
        let (_, slice) = next().await;
        if about(&slice).is_some_and(|said| said.0) {
            break slice;
        }
    };
    let endpoint = &ready.endpoints[0];
    let pod = store.get::<Pod>("shop", &name).unwrap();
    assert_eq!(endpoint.addresses, [pod.status.unwrap().pod_ip.unwrap()]);
    assert_eq!(endpoint.node_name, pod.spec.unwrap().node_name);
    assert_eq!(endpoint.target_ref.as_ref().unwrap().uid, pod.metadata.uid);
    assert_eq!(
        ready.metadata.labels.as_ref().unwrap()[endpointslice::SERVICE_NAME],
        "web"
    );
    assert_eq!(
        ready.ports.as_ref().unwrap()[0].port,
        Some(8080),
        "the named target port is resolved"
    );

    // Whole seconds are the grain of trigger times: the end must fall into a later one to have its own.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = Instant::now();
    delete_pod(store, "shop", &name, None).unwrap();
    let (at, slice) = next().await;
    assert_eq!(about(&slice), Some((false, true, true, false)));
    let lag = at - told;
    assert!(
        lag >= Duration::from_millis(4) && lag < Duration::from_millis(30),
        "{lag:?}"
    );
    // Its successor comes and it goes; then it is absent, and that update has a time.
    let gone = loop {
        let (_, slice) = next().await;
        match about(&slice) {
            Some(said) => assert!(
                !said.0 && said.2,
                "a terminating endpoint is never ready: {said:?}"
            ),
            None => break slice,
        }
    };
    assert!(
        gone.metadata
            .annotations
            .unwrap()
            .contains_key(endpointslice::TRIGGER_TIME)
    );

    store.remove::<Service>("shop", "web").unwrap();
    while !store.list::<EndpointSlice>().is_empty() {
        let _removed = slices.next().await;
    }
}

#[tokio::test]
async fn publish_not_ready_addresses_keeps_a_terminating_endpoint_ready() {
    let cluster = cluster(9);
    let store = &cluster.store;
    let mut service = service(
        "shop",
        "web",
        "10.96.0.10".parse().unwrap(),
        80,
        IntOrString::Int(8080),
        None,
    );
    service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    store.create(service).unwrap();
    store.create(web(1, "1", "0")).unwrap();
    complete(store).await;
    let mut slices = store.watch::<EndpointSlice>();
    delete_pod(
        store,
        "shop",
        &pods::key(&store.list::<Pod>()[0].metadata).1,
        None,
    )
    .unwrap();
    loop {
        let Some(Change::Applied(slice)) = slices.next().await else {
            continue;
        };
        let conditions = slice
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.conditions.clone());
        if let Some(told) = conditions
            .into_iter()
            .find(|conditions| conditions.terminating == Some(true))
        {
            assert_eq!(told.ready, Some(true));
            return;
        }
    }
}

#[tokio::test]
async fn an_ipv6_service_has_ipv6_endpoints_only() {
    let cluster = cluster(10);
    let store = &cluster.store;
    store
        .create(service(
            "shop",
            "web",
            "fd00::10".parse().unwrap(),
            80,
            IntOrString::Int(8080),
            None,
        ))
        .unwrap();
    let mut slices = store.watch::<EndpointSlice>();
    store.create(web(1, "1", "0")).unwrap();
    complete(store).await;
    let name = store.list::<Pod>()[0].metadata.name.clone().unwrap();
    let both = vec![
        PodIP {
            ip: "10.0.0.9".into(),
        },
        PodIP { ip: "fd00::9".into() },
    ];
    store
        .update("shop", &name, |pod: &mut Pod| {
            pod.status.as_mut().unwrap().pod_ips = Some(both);
        })
        .unwrap();
    loop {
        let Some(Change::Applied(slice)) = slices.next().await else {
            continue;
        };
        assert_eq!(slice.address_type, "IPv6");
        if let Some(endpoint) = slice.endpoints.first() {
            assert_eq!(endpoint.addresses, ["fd00::9"]);
            return;
        }
    }
}
