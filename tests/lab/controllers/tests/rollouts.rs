//! Rollouts, scaling and deletion: what must hold at every change of a pod.

use super::*;

async fn rollout_keeps_its_limits(
    seed: u64,
    replicas: i32,
    surge: &str,
    unavailable: &str,
    limits: (usize, usize),
) {
    let cluster = cluster(seed);
    let store = &cluster.store;
    let (most, least) = limits;
    let mut observed = Observed::new(store);
    let wanted = usize::try_from(replicas).unwrap();
    store.create(web(replicas, surge, unavailable)).unwrap();
    observed
        .until(
            |o| assert!(o.active().len() <= wanted),
            |o| o.available() == wanted,
        )
        .await;
    let before = complete(store).await;
    annotate_template::<Deployment>(store, "shop", "web", "version", "2").unwrap();
    let after = {
        let template = store
            .get::<Deployment>("shop", "web")
            .unwrap()
            .spec
            .unwrap()
            .template;
        names::template_hash(&template)
    };
    assert_ne!(before, after);
    let check = |o: &Observed| {
        assert!(
            o.active().len() <= most,
            "seed {seed}: {} pods, at most {most}",
            o.active().len()
        );
        assert!(
            o.available() >= least,
            "seed {seed}: {} available, at least {least}",
            o.available()
        );
    };
    observed
        .until(check, |o| o.of_hash(&after) == wanted && o.pods.len() == wanted)
        .await;
    assert_eq!(complete(store).await, after);

    let sets: BTreeMap<String, ReplicaSet> = store
        .list::<ReplicaSet>()
        .into_iter()
        .map(|set| (pods::key(&set.metadata).1, set))
        .collect();
    let old = &sets[&format!("web-{before}")];
    let new = &sets[&format!("web-{after}")];
    assert_eq!(old.spec.as_ref().unwrap().replicas, Some(0));
    assert_eq!(old.status.as_ref().unwrap().replicas, 0);
    assert_eq!(new.status.as_ref().unwrap().available_replicas, Some(replicas));
    let revision =
        |set: &ReplicaSet| set.metadata.annotations.as_ref().unwrap()[deployment::REVISION].clone();
    assert_eq!((revision(old), revision(new)), ("1".into(), "2".into()));
}

#[tokio::test]
async fn a_rolling_update_never_leaves_its_limits() {
    let mut runs = JoinSet::new();
    for seed in 0..6 {
        runs.spawn(rollout_keeps_its_limits(seed, 3, "1", "0", (4, 3)));
        runs.spawn(rollout_keeps_its_limits(100 + seed, 10, "25%", "25%", (13, 8)));
        runs.spawn(rollout_keeps_its_limits(200 + seed, 5, "0", "2", (5, 3)));
        runs.spawn(rollout_keeps_its_limits(300 + seed, 4, "100%", "0", (8, 4)));
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test]
async fn an_old_pod_is_told_to_go_7_to_15_ms_after_a_new_one_is_ready() {
    // Timers have a grain of 1 ms for each of the three hops. A busy machine may be later, so one rollout of several must
    // be in time.
    let mut shortest = Vec::new();
    for seed in 7..17 {
        let gaps = gaps(seed).await;
        assert!(
            gaps.iter().all(|gap| *gap >= Duration::from_millis(7)),
            "{gaps:?}"
        );
        shortest.extend(gaps.into_iter().min());
        if shortest.last() <= Some(&Duration::from_millis(19)) {
            return;
        }
    }
    panic!("{shortest:?}");
}

/// From each new pod's Ready to the deletion of an old one.
async fn gaps(seed: u64) -> Vec<Duration> {
    let cluster = cluster(seed);
    let store = &cluster.store;
    store.create(web(4, "1", "0")).unwrap();
    complete(store).await;
    let mut watch = store.watch::<Pod>();
    annotate_template::<Deployment>(store, "shop", "web", "version", "2").unwrap();
    let (mut ready, mut told, mut old) = (BTreeMap::new(), BTreeMap::new(), None);
    while told.len() < 4 {
        let (at, change) = watch.next_timed().await.unwrap();
        let Change::Applied(pod) = change else { continue };
        let (name, hash) = (
            pods::key(&pod.metadata).1,
            pod.metadata.labels.clone().unwrap()[pods::POD_TEMPLATE_HASH].clone(),
        );
        // The pods that exist already are told first.
        let old = old.get_or_insert(hash.clone());
        if *old == hash && pods::terminating(&pod) {
            told.entry(name).or_insert(at);
        } else if *old != hash && pods::ready(&pod) {
            ready.entry(name).or_insert(at);
        }
    }
    let sorted = |times: BTreeMap<String, Instant>| {
        let mut times: Vec<Instant> = times.into_values().collect();
        times.sort_unstable();
        times
    };
    sorted(told)
        .into_iter()
        .zip(sorted(ready))
        .map(|(told, ready)| told - ready)
        .collect()
}

#[tokio::test]
async fn min_ready_seconds_delays_availability_and_so_the_next_step() {
    let cluster = cluster(3);
    let store = &cluster.store;
    let mut web = web(1, "1", "0");
    web.spec.as_mut().unwrap().min_ready_seconds = Some(1);
    let start = Instant::now();
    store.create(web).unwrap();
    complete(store).await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    let set = &store.list::<ReplicaSet>()[0];
    assert_eq!(set.status.as_ref().unwrap().available_replicas, Some(1));
}

#[tokio::test]
async fn recreate_starts_new_pods_only_when_no_old_one_runs() {
    let cluster = cluster(4);
    let store = &cluster.store;
    let mut web = web(3, "0", "0");
    let strategy = DeploymentStrategy {
        type_: Some("Recreate".into()),
        rolling_update: None,
    };
    web.spec.as_mut().unwrap().strategy = Some(strategy);
    let mut observed = Observed::new(store);
    store.create(web).unwrap();
    let before = complete(store).await;
    annotate_template::<Deployment>(store, "shop", "web", "version", "2").unwrap();
    let hash_of = |pod: &Pod| pod.metadata.labels.clone().unwrap()[pods::POD_TEMPLATE_HASH].clone();
    let check = |o: &Observed| {
        let running: Vec<String> = o
            .pods
            .values()
            .filter(|pod| !pods::terminal(pod))
            .map(hash_of)
            .collect();
        assert!(
            running.windows(2).all(|pair| pair[0] == pair[1]),
            "both versions run: {running:?}"
        );
    };
    observed
        .until(check, |o| {
            o.available() == 3 && o.pods.len() == 3 && o.pods.values().all(|pod| hash_of(pod) != before)
        })
        .await;
}

#[tokio::test]
async fn scale_and_delete_bring_the_wanted_number_of_pods() {
    let cluster = cluster(5);
    let store = &cluster.store;
    let mut observed = Observed::new(store);
    store.create(web(2, "1", "0")).unwrap();
    observed.until(|_| {}, |o| o.available() == 2).await;
    complete(store).await;
    scale(store, "shop", "web", 5).unwrap();
    observed
        .until(|o| assert!(o.available() >= 2), |o| o.available() == 5)
        .await;
    let nodes: std::collections::BTreeSet<_> = observed
        .pods
        .values()
        .map(|pod| pod.spec.as_ref().unwrap().node_name.clone())
        .collect();
    assert_eq!(nodes.len(), 2, "pods go to both nodes");

    let victim = observed.pods.keys().next().unwrap().clone();
    delete_pod(store, "shop", &victim, None).unwrap();
    observed
        .until(|_| {}, |o| o.available() == 5 && !o.pods.contains_key(&victim))
        .await;
    let forced = observed.pods.keys().next().unwrap().clone();
    delete_pod(store, "shop", &forced, Some(0)).unwrap();
    assert_eq!(store.get::<Pod>("shop", &forced), None);
    observed
        .until(|_| {}, |o| o.available() == 5 && !o.pods.contains_key(&forced))
        .await;

    // A pod that is not ready is the first to go.
    let unready = observed.pods.keys().nth(2).unwrap().clone();
    store
        .update("shop", &unready, |pod: &mut Pod| set_ready(pod, false))
        .unwrap();
    scale(store, "shop", "web", 4).unwrap();
    observed
        .until(|o| assert!(o.available() >= 4), |o| o.pods.len() == 4)
        .await;
    assert!(!observed.pods.contains_key(&unready));
}

#[tokio::test]
async fn a_rollback_makes_the_old_replicaset_the_newest_revision() {
    let cluster = cluster(6);
    let store = &cluster.store;
    let mut first = web(2, "1", "0");
    let template = &mut first.spec.as_mut().unwrap().template;
    template.metadata.get_or_insert_default().annotations =
        Some([("version".to_owned(), "1".to_owned())].into());
    store.create(first).unwrap();
    let before = complete(store).await;
    annotate_template::<Deployment>(store, "shop", "web", "version", "2").unwrap();
    complete(store).await;
    annotate_template::<Deployment>(store, "shop", "web", "version", "1").unwrap();
    assert_eq!(complete(store).await, before);
    assert_eq!(store.list::<ReplicaSet>().len(), 2);
    let set = store.get::<ReplicaSet>("shop", &format!("web-{before}")).unwrap();
    assert_eq!(set.metadata.annotations.unwrap()[deployment::REVISION], "3");
    assert_eq!(
        store
            .get::<Deployment>("shop", "web")
            .unwrap()
            .metadata
            .annotations
            .unwrap()[deployment::REVISION],
        "3"
    );
}

#[tokio::test]
async fn names_have_the_shape_of_a_real_cluster() {
    let cluster = cluster(11);
    let store = &cluster.store;
    store.create(web(1, "1", "0")).unwrap();
    let hash = complete(store).await;
    let pod = store.list::<Pod>().remove(0);
    let set = store.get::<ReplicaSet>("shop", &format!("web-{hash}")).unwrap();
    let (_, name) = pods::key(&pod.metadata);
    let suffix = name.strip_prefix(&format!("web-{hash}-")).unwrap();
    assert!(suffix.len() == 5 && hash.len() >= 8, "{name}");
    assert!(
        hash.chars()
            .chain(suffix.chars())
            .all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)),
        "{name}"
    );
    let owner = pods::controller_of(&pod.metadata, "ReplicaSet").unwrap();
    assert_eq!(
        (&owner.name, Some(&owner.uid)),
        (&pods::key(&set.metadata).1, set.metadata.uid.as_ref())
    );
    let owner = pods::controller_of(&set.metadata, "Deployment").unwrap();
    assert_eq!(
        Some(&owner.uid),
        store
            .get::<Deployment>("shop", "web")
            .unwrap()
            .metadata
            .uid
            .as_ref()
    );
    assert_eq!(pod.status.unwrap().qos_class.as_deref(), Some("BestEffort"));
}
