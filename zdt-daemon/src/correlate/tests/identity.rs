//! Connections under several addresses, and what tells whose they are.

use super::world::{APP, CLIENT, POD, World, addr, answered, ended_pod, ms, pod};
use crate::{
    correlate::Pods,
    input::{
        Attribution, CgroupId, NetnsInum, Observation, Place, PodState, PodUid, Side, TcpCounters, TcpState,
        What,
    },
    verdict::Outcome,
};

#[test]
fn a_masqueraded_client_that_is_refused_is_one_flow_with_its_own_address() {
    let mut world = ended_pod();
    let mut sock = World::sock(Side::Server, TcpState::Close, 0, None);
    sock.remote = addr("10.244.1.1:27009");
    let reason = Some("NO_SOCKET".into());
    let reset = Observation::ResetSent {
        sock,
        reason,
        to_syn: true,
        has_socket: false,
        isn: Some(77),
    };
    world.kernel(140, reset);
    let tcp = TcpCounters {
        first_syn: Some(ms(140)),
        isn: Some(77),
        ..Default::default()
    };
    let mut sock = World::sock(Side::Client, TcpState::SynSent, 111, Some(tcp));
    sock.remote = addr("10.99.0.1:30000");
    let (old, new) = (TcpState::SynSent, TcpState::Close);
    let end = Observation::FlowEnd {
        sock,
        old,
        new,
        exiting: false,
        tgid: 9,
    };
    world.kernel(141, end);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.client, addr(CLIENT));
    assert_eq!(verdict.server, Some(addr(POD)));
    assert!(verdict.id.starts_with("10.244.1.1:27009>"), "{}", verdict.id);
}

#[test]
fn a_view_from_another_clusters_namespace_is_not_ours() {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    for input in &mut world.inputs {
        if let What::Kernel(Observation::ResetSent { sock, .. }) = &mut input.what {
            sock.netns.0 = 99;
        }
    }
    assert!(world.run().0.is_empty());
}

#[test]
fn a_request_within_the_jiffy_of_the_last_answer_is_unanswered_all_the_same() {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    // All times equal and everything read and acknowledged: only the segment after our last answer tells.
    let again = TcpCounters {
        since_last_acked: 100,
        ..answered()
    };
    world.server_end(117, TcpState::Established, TcpState::FinWait1, again, true);
    assert_eq!(world.only_verdict().cause(), "immediate-exit");
}

#[test]
fn a_reset_that_the_client_never_got_is_no_answer() {
    let mut world = ended_pod();
    let reset = Observation::ResetSent {
        sock: World::sock(Side::Server, TcpState::Close, 0, None),
        reason: Some("NO_SOCKET".into()),
        to_syn: true,
        has_socket: false,
        isn: Some(77),
    };
    world.kernel(167, reset);
    let tcp = TcpCounters {
        first_syn: Some(ms(167)),
        isn: Some(77),
        ..Default::default()
    };
    let sock = World::sock(Side::Client, TcpState::SynSent, 0, Some(tcp));
    world.kernel(
        1_190,
        Observation::Retransmit {
            sock: sock.clone(),
            err: 0,
            silent_ms: None,
        },
    );
    world.translated(1_191, false);
    let (old, new) = (TcpState::SynSent, TcpState::Close);
    world.kernel(
        3_170,
        Observation::FlowEnd {
            sock,
            old,
            new,
            exiting: false,
            tgid: 9,
        },
    );
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("pod-ip-gone", Outcome::TimedOut)
    );
}

#[test]
fn pods_on_the_host_network_are_told_apart_by_cgroup_and_port() {
    let mut pods = Pods::new(16);
    for (t, uid, cgroup, port) in [(10, "a", 101, 8080), (20, "b", 102, 9090), (30, "c", 103, 8080)] {
        let state = PodState {
            host_network: true,
            ..pod(uid, "1", "10.244.1.1")
        };
        pods.applied(ms(t), &state, None, None);
        let place = Place {
            cgroup: CgroupId(cgroup),
            netns: NetnsInum(1),
            attribution: Attribution::Pod {
                uid: PodUid(uid.into()),
                container: "c".into(),
            },
        };
        let local = format!("0.0.0.0:{port}").parse().unwrap();
        pods.listener(ms(t), &place, local, true, (false, 7));
    }
    let whose = |port, cgroup: Option<u64>, t| {
        let pod = pods.on_host(port, cgroup.map(CgroupId), ms(t));
        pod.map(|p| p.state.uid.to_string())
    };
    assert_eq!(whose(9090, None, 50).as_deref(), Some("b"));
    assert_eq!(
        whose(8080, None, 25).as_deref(),
        Some("a"),
        "the only one by then"
    );
    assert_eq!(
        whose(8080, None, 50).as_deref(),
        Some("c"),
        "the last one by then"
    );
    assert_eq!(whose(8080, Some(101), 50).as_deref(), Some("a"), "its socket");
    assert_eq!(whose(7070, None, 50), None);
    assert!(
        pods.owner("10.244.1.1".parse().unwrap(), ms(50)).is_none(),
        "nobody owns the node's address"
    );
}

#[test]
fn what_the_node_dials_at_itself_is_no_request_unless_a_pod_or_a_service_is_there() {
    let refused_at = |to: &str| {
        let mut world = World::new();
        let tcp = TcpCounters {
            first_syn: Some(ms(500)),
            ..Default::default()
        };
        let mut sock = World::sock(Side::Client, TcpState::Close, 111, Some(tcp));
        sock.netns = NetnsInum(1);
        sock.local = addr("10.244.1.1:55496");
        sock.remote = addr(to);
        let (old, new) = (TcpState::SynSent, TcpState::Close);
        world.kernel(
            501,
            Observation::FlowEnd {
                sock,
                old,
                new,
                exiting: false,
                tgid: 9,
            },
        );
        world.run().0.len()
    };
    assert_eq!(refused_at("10.244.1.1:6443"), 0, "an API server that is away");
    assert_eq!(refused_at("10.244.1.1:30080"), 1, "a node port");
    assert_eq!(refused_at(POD), 1);
}

#[test]
fn what_a_static_pods_cgroups_did_is_its_mirrors_whichever_was_told_first() {
    let place = Place {
        cgroup: CgroupId(7),
        netns: NetnsInum(1),
        attribution: Attribution::Pod {
            uid: PodUid("hash".into()),
            container: "c".into(),
        },
    };
    let mirror = |uid: &str| PodState {
        cgroup_uid: Some(PodUid("hash".into())),
        ..pod(uid, "1", "10.244.1.5")
    };
    let mut pods = Pods::new(16);
    pods.listener(ms(10), &place, addr("0.0.0.0:8080"), true, (false, 7));
    pods.applied(ms(20), &mirror("api"), None, None);
    pods.listener(ms(30), &place, addr("0.0.0.0:9090"), true, (false, 7));
    let ports = |pods: &Pods, uid: &str| {
        let pod = pods.get(&PodUid(uid.into())).unwrap();
        pod.listening(ms(99)).map(|l| l.local.port()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&pods, "api"), [8080, 9090]);
    assert!(pods.get(&PodUid("hash".into())).is_none(), "one pod");
    // `kubectl delete` takes the mirror alone; the kubelet makes another one.
    pods.gone(ms(40), &PodUid("api".into()), None);
    pods.applied(ms(50), &mirror("again"), None, None);
    pods.listener(ms(60), &place, addr("0.0.0.0:9090"), false, (false, 7));
    assert_eq!(ports(&pods, "again"), [8080]);
}
