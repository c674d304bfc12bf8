//! A small world to tell stories in: one node, one service, one old pod.

use std::net::SocketAddr;

use crate::correlate::{Correlator, Settings};
use crate::{
    input::{
        Attribution, CgroupId, ContainerState, Deletion, EndpointState, Input, Ktime, NetnsInum, NsName,
        Observation, Place, PodState, PodUid, Protocol, ServicePort, ServiceState, Side, SlicePort,
        SliceState, Sock, Start, TcpCounters, TcpState, Translation, Tuple, Wall, What, Workload,
    },
    verdict::{Output, RolloutSummary, Verdict},
};

pub(super) const CLIENT: &str = "10.244.1.9:40000";
pub(super) const VIP: &str = "10.96.0.80:80";
pub(super) const POD: &str = "10.244.1.5:8080";
pub(super) const APP: CgroupId = CgroupId(100);
pub(super) const PAUSE: CgroupId = CgroupId(101);

pub(super) struct World {
    pub(super) inputs: Vec<Input>,
}

pub(super) fn addr(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

/// Milliseconds of the story.
pub(super) fn ms(t: u64) -> Ktime {
    Ktime((10_000 + t) * 1_000_000)
}

pub(super) fn name(name: &str) -> NsName {
    NsName {
        namespace: "shop".into(),
        name: name.into(),
    }
}

pub(super) fn pod(uid: &str, hash: &str, ip: &str) -> PodState {
    PodState {
        uid: PodUid(uid.into()),
        pod: name(&format!("web-{hash}-{uid}")),
        ips: vec![ip.parse().unwrap()],
        workload: Some(Workload {
            kind: "deployment".into(),
            name: "web".into(),
        }),
        template_hash: Some(hash.into()),
        grace_s: 30,
        phase: "Running".into(),
        ready: true,
        created: Some(Wall(0)),
        containers: vec![ContainerState {
            name: "app".into(),
            id: "c-app".into(),
            probe_ports: vec![8080],
            ..Default::default()
        }],
        ..Default::default()
    }
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self { inputs: Vec::new() };
        world.at(
            0,
            What::Start(Start {
                node: "n1".into(),
                wall: Wall(1_700_000_000_000),
                kernel: "6.18".into(),
                node_addrs: vec!["10.244.1.1".parse().unwrap()],
                hooks: Vec::new(),
                missing: Vec::new(),
                hz: 250,
                netns: NetnsInum(1),
            }),
        );
        world.at(
            0,
            What::Service(ServiceState {
                service: name("web"),
                vips: vec![addr(VIP).ip()],
                ports: vec![ServicePort {
                    port: 80,
                    node_port: 30_080,
                    protocol: "TCP".into(),
                    ..Default::default()
                }],
                ..Default::default()
            }),
        );
        world.at(
            0,
            What::Slice(SliceState {
                slice: name("web-abcde"),
                service: "web".into(),
                ports: vec![SlicePort {
                    port: 8080,
                    protocol: "TCP".into(),
                    ..Default::default()
                }],
                endpoints: vec![EndpointState {
                    addrs: vec![addr(POD).ip()],
                    ready: true,
                    serving: true,
                    pod: Some((PodUid("old".into()), "web-1-old".into())),
                    ..Default::default()
                }],
            }),
        );
        world.at(0, What::Pod(pod("old", "1", "10.244.1.5")));
        world.listener(1, true, false);
        world
    }

    pub(super) fn at(&mut self, t: u64, what: What) {
        self.inputs.push(Input { at: ms(t), what });
    }

    pub(super) fn kernel(&mut self, t: u64, observation: Observation) {
        self.at(t, What::Kernel(observation));
    }

    pub(super) fn place(cgroup: CgroupId) -> Place {
        let container = if cgroup == APP { "c-app" } else { "c-pause" };
        Place {
            cgroup,
            netns: NetnsInum(7),
            attribution: Attribution::Pod {
                uid: PodUid("old".into()),
                container: container.into(),
            },
        }
    }

    pub(super) fn listener(&mut self, t: u64, open: bool, exiting: bool) {
        let local = addr("0.0.0.0:8080");
        self.kernel(
            t,
            Observation::Listener {
                place: Self::place(APP),
                local,
                open,
                exiting,
                tgid: 50,
            },
        );
    }

    pub(super) fn signal(&mut self, t: u64, cgroup: CgroupId, sig: i32) {
        self.kernel(
            t,
            Observation::Signal {
                place: Self::place(cgroup),
                pid: 50,
                tgid: 50,
                comm: "app".into(),
                sig,
                code: Some(0),
                delivered: true,
                sender_tgid: 1,
                sender_comm: "runc".into(),
            },
        );
    }

    pub(super) fn exit(&mut self, t: u64, cgroup: CgroupId) {
        self.exit_with(t, cgroup, 50, 0);
    }

    /// `exit_code` as wait(2) encodes it.
    pub(super) fn exit_with(&mut self, t: u64, cgroup: CgroupId, tgid: u32, exit_code: i32) {
        self.kernel(
            t,
            Observation::Exit {
                place: Self::place(cgroup),
                tgid,
                comm: "app".into(),
                exit_code,
            },
        );
    }

    /// The kernel's own signal, from a process of the container.
    pub(super) fn kernel_kill(&mut self, t: u64, tgid: u32, sender_tgid: u32) {
        self.kernel(
            t,
            Observation::Signal {
                place: Self::place(APP),
                pid: tgid,
                tgid,
                comm: "app".into(),
                sig: 9,
                code: Some(128),
                delivered: true,
                sender_tgid,
                sender_comm: "app".into(),
            },
        );
    }

    pub(super) fn oom(&mut self, t: u64, pid: u32) {
        self.kernel(
            t,
            Observation::OomVictim {
                place: Self::place(APP),
                pid,
                comm: "app".into(),
            },
        );
    }

    pub(super) fn delete(&mut self, t: u64, grace_s: i64) {
        let deletion = Some(Deletion {
            timestamp: Wall(0),
            grace_s,
        });
        self.at(
            t,
            What::Pod(PodState {
                deletion,
                grace_s,
                ..pod("old", "1", "10.244.1.5")
            }),
        );
    }

    pub(super) fn sock(side: Side, state: TcpState, err: i32, tcp: Option<TcpCounters>) -> Sock {
        let (local, remote) = match side {
            Side::Server => (addr(POD), addr(CLIENT)),
            Side::Client => (addr(CLIENT), addr(VIP)),
        };
        let cgroup = if side == Side::Server { APP } else { CgroupId(200) };
        Sock {
            side,
            local,
            remote,
            netns: NetnsInum(if side == Side::Server { 7 } else { 8 }),
            cgroup,
            cookie: 0,
            state,
            err,
            err_soft: 0,
            tcp,
        }
    }

    pub(super) fn reset(&mut self, t: u64, reason: &str, to_syn: bool) {
        let has_socket = reason != "NO_SOCKET";
        let sock = Self::sock(Side::Server, TcpState::Close, 0, None);
        self.kernel(
            t,
            Observation::ResetSent {
                sock,
                reason: Some(reason.into()),
                to_syn,
                has_socket,
                held: None,
                isn: None,
            },
        );
    }

    pub(super) fn connect_failed(&mut self, first_syn: u64, t: u64, err: i32) {
        let tcp = TcpCounters {
            first_syn: Some(ms(first_syn)),
            ..Default::default()
        };
        let sock = Self::sock(Side::Client, TcpState::Close, err, Some(tcp));
        let (old, new) = (TcpState::SynSent, TcpState::Close);
        self.kernel(
            t,
            Observation::FlowEnd {
                sock,
                old,
                new,
                exiting: false,
                tgid: 9,
            },
        );
    }

    pub(super) fn syn_retransmit(&mut self, first_syn: u64, t: u64) {
        let tcp = TcpCounters {
            first_syn: Some(ms(first_syn)),
            ..Default::default()
        };
        self.kernel(
            t,
            Observation::Retransmit {
                sock: Self::sock(Side::Client, TcpState::SynSent, 0, Some(tcp)),
                err: 0,
                silent_ms: None,
            },
        );
    }

    pub(super) fn translated(&mut self, t: u64, replied: bool) {
        let reply = Some(Tuple {
            from: addr(POD),
            to: addr(CLIENT),
        });
        self.at(
            t,
            What::Translation(Translation {
                protocol: Protocol::Tcp,
                orig: Tuple {
                    from: addr(CLIENT),
                    to: addr(VIP),
                },
                reply,
                replied,
            }),
        );
    }

    pub(super) fn server_end(
        &mut self,
        t: u64,
        old: TcpState,
        new: TcpState,
        tcp: TcpCounters,
        exiting: bool,
    ) {
        let sock = Self::sock(Side::Server, new, 0, Some(tcp));
        self.kernel(
            t,
            Observation::FlowEnd {
                sock,
                old,
                new,
                exiting,
                tgid: 50,
            },
        );
    }

    pub(super) fn run(&self) -> (Vec<Verdict>, Vec<RolloutSummary>) {
        let mut correlator = Correlator::new(Settings::default());
        let mut out = Vec::new();
        for input in &self.inputs {
            correlator.step(input, &mut out);
        }
        correlator.finish(&mut out);
        let mut verdicts = Vec::new();
        let mut rollouts = Vec::new();
        for output in out {
            match output {
                Output::Verdict(v) => verdicts.push(*v),
                Output::Propagation(_) | Output::SelectorSwitch(_) | Output::NotSeen(_) => {}
                Output::Rollout(r) => rollouts.push(*r),
            }
        }
        (verdicts, rollouts)
    }

    pub(super) fn only_verdict(&self) -> Verdict {
        let (mut verdicts, _) = self.run();
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        verdicts.remove(0)
    }
}

/// One request of 100 bytes in, nothing out.
pub(super) fn unanswered() -> TcpCounters {
    TcpCounters {
        bytes_received: 100,
        data_segs_in: 1,
        since_last_segment: 100,
        ..Default::default()
    }
}

pub(super) fn answered() -> TcpCounters {
    TcpCounters {
        bytes_received: 100,
        bytes_sent: 200,
        bytes_acked: 200,
        data_segs_in: 1,
        data_segs_out: 1,
        ..Default::default()
    }
}

/// Deleted at 100 ms, SIGTERM at 115, listener closed at 116, gone from 166 on.
pub(super) fn ended_pod() -> World {
    let mut world = World::new();
    world.delete(100, 30);
    world.signal(115, APP, 15);
    world.listener(116, false, false);
    world.exit(117, APP);
    world.signal(165, PAUSE, 9);
    world.exit(166, PAUSE);
    world
}
