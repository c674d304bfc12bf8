//! Who keeps what of a large cluster, in bytes of the allocator: each that follows the objects, alone and in one thread.

use std::{collections::BTreeMap, net::Ipv4Addr};

use zdt_daemon::{
    cluster::{Beside, Transit, WatchSet},
    correlate::{Correlator, Settings},
    input::{
        EndpointState, Input, Ktime, NsName, PodUid, ReplicaSetState, ServicePort, ServiceState, SlicePort,
        SliceState, What,
    },
};

use super::{
    Size,
    alloc::Allocated,
    figures::{Column, Figures},
};

pub const COLUMNS: [Column; 1] = [("bytes for each endpoint", 0)];

const AT: Ktime = Ktime(1_000_000_000);

fn name(name: String) -> NsName {
    NsName {
        namespace: "shop".into(),
        name,
    }
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A80_0000 + u32::try_from(n).unwrap())
}

fn slice(size: Size, n: usize) -> What {
    let endpoint = |pod: usize| EndpointState {
        addrs: vec![address(n * 32 + pod).into()],
        ready: true,
        serving: true,
        terminating: false,
        pod: Some((
            PodUid(format!("{n:08x}-{pod:04x}-4000-8000-000000000000").into()),
            format!("web-{n}-5895c69847-{pod:05}"),
        )),
        node: Some(format!("n{}", (n * size.pods_of_each + pod) % size.nodes)),
    };
    What::Slice(SliceState {
        slice: name(format!("web-{n}-abcde")),
        service: format!("web-{n}"),
        ports: vec![SlicePort {
            name: "http".into(),
            port: 8080,
            protocol: "TCP".into(),
        }],
        endpoints: (0..size.pods_of_each).map(endpoint).collect(),
    })
}

fn service(_: Size, n: usize) -> What {
    What::Service(ServiceState {
        service: name(format!("web-{n}")),
        vips: vec![address((1 << 20) + n).into()],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            node_port: 0,
            protocol: "TCP".into(),
        }],
        selector: BTreeMap::from([("app".into(), format!("web-{n}"))]),
        ..ServiceState::default()
    })
}

fn replica_set(_: Size, n: usize) -> What {
    What::ReplicaSet(ReplicaSetState {
        replica_set: name(format!("web-{n}-5895c69847")),
        deployment: Some(format!("web-{n}")),
        template_hash: Some("5895c69847".into()),
        revision: Some(1),
        replicas: 15,
        desired: Some(15),
        owner_uid: Some(format!("{n:08x}-0000-4000-8000-000000000000")),
        ..ReplicaSetState::default()
    })
}

/// What one of a kind looks like.
type Made = fn(Size, usize) -> What;

/// Each kind of object, and its name.
const KINDS: [(&str, Made); 3] = [
    ("slices", slice),
    ("services", service),
    ("ReplicaSets", replica_set),
];

fn live<K>(size: Size, kind: fn(Size, usize) -> What, mut keeper: K, follow: impl Fn(&mut K, What)) -> f64 {
    let before = Allocated::now();
    for n in 0..size.services {
        follow(&mut keeper, kind(size, n));
    }
    Allocated::now().since(before).live as f64
}

/// Bytes for each endpoint, by kind of object and keeper.
pub fn measure(size: Size) -> Vec<(String, Figures)> {
    let mut rows = Vec::new();
    for (of, kind) in KINDS {
        let mut row = |keeper: &str, bytes: f64| {
            let mut figures = Figures::default();
            figures.add(bytes / (size.services * size.pods_of_each) as f64);
            rows.push((format!("{of}, {keeper}"), figures));
        };
        let correlator = Correlator::new(Settings::default());
        let step = |c: &mut Correlator, what| c.step(&Input { at: AT, what }, &mut Vec::new());
        row("correlator", live(size, kind, correlator, step));
        let follow = |w: &mut WatchSet, what: What| w.follow(AT, &what, &mut Vec::new());
        row("watched addresses", live(size, kind, WatchSet::default(), follow));
        let follow = |t: &mut Transit, what: What| t.follow(AT, &what, &mut Vec::new());
        row("transit", live(size, kind, Transit::default(), follow));
        let follow = |b: &mut Beside, what: What| b.follow(AT, &what);
        row("beside", live(size, kind, Beside::default(), follow));
    }
    rows
}
