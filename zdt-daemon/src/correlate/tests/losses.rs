//! What was lost lowers the confidence of the verdicts that may rest on it.

use super::world::{APP, PAUSE, World, addr, ended_pod, ms, name, pod, unanswered};
use crate::{
    correlate::{Correlator, Settings},
    input::{
        Deletion, EndpointState, Input, Ktime, PodState, PodUid, SliceState, TcpCounters, TcpState, Wall,
        What,
    },
    verdict::{Confidence, Output, Trigger, Verdict},
};

#[test]
fn loss_lowers_confidence_and_changes_no_cause() {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    world.at(250, What::Tick);
    world.at(
        400,
        What::Loss {
            source: "ring".into(),
            count: 3,
        },
    );
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.confidence, Confidence::Degraded { lost: 3 });
}

#[test]
fn a_loss_touches_the_verdicts_that_rest_on_it_and_no_other() {
    let confidence = |story: fn(&mut World), source: &str| {
        let mut world = ended_pod();
        story(&mut world);
        let source = source.to_owned();
        world.at(3_400, What::Loss { source, count: 1 });
        world.inputs.sort_by_key(|i| i.at);
        world.only_verdict().confidence
    };
    let silence: fn(&mut World) = |world| {
        world.syn_retransmit(300, 1_320);
        world.translated(1_321, false);
        world.connect_failed(300, 3_300, 0);
    };
    let cut: fn(&mut World) = |world| {
        world.server_end(
            3_300,
            TcpState::Established,
            TcpState::FinWait1,
            unanswered(),
            true,
        );
    };
    let left: fn(&mut World) = |world| {
        let received = TcpCounters {
            bytes_received: 101,
            ..Default::default()
        };
        world.server_end(3_300, TcpState::CloseWait, TcpState::LastAck, received, false);
    };
    let lost = Confidence::Degraded { lost: 1 };
    // Which pod ended is told by processes; whether the rules sent it there, by the rules.
    assert_eq!(confidence(silence, "rules"), lost);
    assert_eq!(confidence(silence, "ring:percpu_free_percpu/xt_replace"), lost);
    assert_eq!(confidence(silence, "ring:net_dev_queue"), lost);
    assert_eq!(confidence(silence, "ring:signal_generate"), lost);
    // Whether a connection that was cut was pinned is told by the rules, too.
    assert_eq!(confidence(cut, "rules"), lost);
    assert_eq!(confidence(left, "rules"), Confidence::Full);
    assert_eq!(confidence(cut, "ring:kfree_skb"), Confidence::Full);
    assert_eq!(confidence(cut, "ring:signal_generate"), lost);
}

#[test]
fn what_a_bound_costs_is_counted() {
    let mut correlator = Correlator::new(Settings {
        max_pods: 2,
        ..Settings::default()
    });
    for n in 1..=5 {
        let state = PodState {
            uid: PodUid(format!("uid-{n}").into()),
            ..PodState::default()
        };
        let what = What::Pod(state);
        correlator.step(&Input { at: Ktime(n), what }, &mut Vec::new());
    }
    let tables = correlator.tables();
    let pods = tables.iter().find(|t| t.name == "pods").unwrap();
    assert_eq!((pods.entries, pods.evicted), (2, 3));
}

/// The watch of pods breaks at 50 ms, before the pod is deleted at 100; what it then told came at `back`.
fn deleted_unseen(back: u64, told: impl FnOnce(&mut World, u64)) -> World {
    let mut world = World::new();
    world.at(
        60,
        What::WatchBroken {
            resource: "pods".into(),
            since: ms(50),
        },
    );
    world.signal(115, APP, 15);
    world.listener(116, false, false);
    world.exit(117, APP);
    world.signal(165, PAUSE, 9);
    world.exit(166, PAUSE);
    world.reset(140, "NO_SOCKET", true);
    for t in (250..back).step_by(250) {
        world.at(t, What::Tick);
    }
    told(&mut world, back);
    world.at(
        back + 1,
        What::WatchGap {
            resource: "pods".into(),
            since: ms(50),
        },
    );
    world.inputs.sort_by_key(|i| i.at);
    world
}

#[test]
fn what_fails_while_zdt_itself_did_not_run_waits_for_the_watches_and_is_marked() {
    let mut world = World::new();
    world.at(20, What::Tick);
    // zdt goes on at 5 s: first it says so, then come what the kernel half wrote meanwhile, and at last the API server's word.
    let resources = ["pods", "endpointslices", "services", "replicasets"];
    for resource in resources {
        let (resource, since) = (resource.to_owned(), ms(50));
        world.at(5_000, What::WatchBroken { resource, since });
    }
    let source = "paused".to_owned();
    world.at(5_000, What::Loss { source, count: 1 });
    world.signal(115, APP, 15);
    world.listener(116, false, false);
    world.exit(117, APP);
    world.reset(140, "NO_SOCKET", true);
    world.signal(165, PAUSE, 9);
    world.exit(166, PAUSE);
    world.at(5_001, What::Tick);
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in &world.inputs {
        correlator.step(input, &mut out);
    }
    assert!(
        out.is_empty(),
        "nothing is judged before the watches told: {out:?}"
    );
    let told = What::Pod(PodState {
        deletion: Some(Deletion {
            timestamp: Wall(1_700_000_030_000),
            grace_s: 30,
        }),
        ..pod("old", "1", "10.244.1.5")
    });
    let whole = resources.map(|resource| What::WatchGap {
        resource: resource.to_owned(),
        since: ms(50),
    });
    for (at, what) in [(ms(5_010), told)]
        .into_iter()
        .chain(whole.map(|what| (ms(6_000), what)))
    {
        correlator.step(&Input { at, what }, &mut out);
    }
    let what = What::Tick;
    correlator.step(&Input { at: ms(6_250), what }, &mut out);
    let verdicts: Vec<&Verdict> = out
        .iter()
        .filter_map(|o| match o {
            Output::Verdict(v) => Some(v.as_ref()),
            _ => None,
        })
        .collect();
    let [verdict] = verdicts[..] else {
        panic!("{out:?}");
    };
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.confidence, Confidence::Degraded { lost: 1 });
    assert!(gaps(verdict).contains(&"pods"), "{:?}", verdict.gaps);
    let unseen = |o: &&Output| matches!(o, Output::NotSeen(_));
    assert_eq!(out.iter().filter(unseen).count(), 1, "{out:?}");
}

fn gaps(verdict: &Verdict) -> Vec<&str> {
    verdict.gaps.iter().map(|g| g.of.as_str()).collect()
}

#[test]
fn what_fails_while_the_watch_is_away_waits_for_it_and_is_marked() {
    // Deleted in the story's first second; the daemon hears of it 20 s later.
    let world = deleted_unseen(20_000, |world, back| {
        let told = What::Pod(PodState {
            deletion: Some(Deletion {
                timestamp: Wall(1_700_000_030_000),
                grace_s: 30,
            }),
            ..pod("old", "1", "10.244.1.5")
        });
        world.at(back, told);
    });
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.confidence, Confidence::Degraded { lost: 0 });
    assert_eq!(gaps(&verdict), ["pods"]);
    let said = serde_json::to_string(&verdict).unwrap();
    assert!(said.contains("that web-1-old was to go is told, late"), "{said}");
    // By the runtime's signal: a deletion 20 s after the refusal would be nonsense.
    assert!(said.contains("25 ms after the deletion"), "{said}");
}

#[test]
fn what_fails_while_the_api_server_is_only_slow_waits_and_is_not_marked() {
    let watch = || "pods".to_owned();
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", true);
    let broken = What::WatchBroken {
        resource: watch(),
        since: ms(130),
    };
    world.at(139, broken);
    for t in (250..20_000).step_by(250) {
        world.at(t, What::Tick);
    }
    world.inputs.sort_by_key(|i| i.at);
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in &world.inputs {
        correlator.step(input, &mut out);
    }
    assert!(out.is_empty(), "{out:?}");
    for what in [What::WatchWhole { resource: watch() }, What::Tick] {
        correlator.step(&Input { at: ms(20_000), what }, &mut out);
    }
    let Some(Output::Verdict(verdict)) = out.first() else {
        panic!("{out:?}");
    };
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_eq!(verdict.confidence, Confidence::Full);
    assert!(verdict.gaps.is_empty());
    let unseen = |o: &Output| matches!(o, Output::NotSeen(_));
    assert!(!out.iter().any(unseen), "{out:?}");
}

#[test]
fn a_pod_that_was_gone_when_the_watch_came_back_was_not_deleted_by_force() {
    let world = deleted_unseen(20_000, |world, back| {
        world.at(
            back,
            What::PodGone {
                uid: PodUid("old".into()),
            },
        );
    });
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert_ne!(verdict.trigger, Trigger::ForceDelete);
    assert_eq!(gaps(&verdict), ["pods"]);
}

#[test]
fn a_watch_that_never_comes_back_is_waited_for_no_longer_than_is_set() {
    let hold = Settings::default().gap_hold_ms;
    let world = deleted_unseen(hold + 10_000, |_, _| {});
    let mut correlator = Correlator::new(Settings::default());
    let (mut out, mut judged) = (Vec::new(), None);
    for input in &world.inputs {
        correlator.step(input, &mut out);
        if judged.is_none() && out.iter().any(|o| matches!(o, Output::Verdict(_))) {
            judged = Some(input.at);
        }
    }
    let judged = judged.unwrap();
    assert!(judged >= ms(50 + hold) && judged <= ms(300 + hold), "{judged:?}");
    let Some(Output::Verdict(verdict)) = out.first() else {
        panic!("{out:?}");
    };
    assert_eq!(
        verdict.cause(),
        "unexplained",
        "nobody had said that the pod was deleted"
    );
    assert_eq!(gaps(verdict), ["pods"]);
}

#[test]
fn a_gap_touches_what_rests_on_it_and_no_other() {
    let confidence = |resource: &str, from: u64, to: u64, elsewhere: bool| {
        let mut world = ended_pod();
        if elsewhere {
            world.inputs.retain(|i| !matches!(i.what, What::Pod(_)));
            world.at(
                0,
                What::Slice(SliceState {
                    slice: name("web-abcde"),
                    service: "web".into(),
                    endpoints: vec![EndpointState {
                        addrs: vec![addr("10.244.1.5:8080").ip()],
                        ready: true,
                        node: Some("n2".into()),
                        pod: Some((PodUid("old".into()), "web-1-old".into())),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
            );
        }
        world.syn_retransmit(300, 1_320);
        world.translated(1_321, false);
        world.connect_failed(300, 3_300, 0);
        let resource = resource.to_owned();
        world.at(
            from,
            What::WatchBroken {
                resource: resource.clone(),
                since: ms(from),
            },
        );
        world.at(
            to,
            What::WatchGap {
                resource,
                since: ms(from),
            },
        );
        world.inputs.sort_by_key(|i| i.at);
        world.only_verdict().confidence
    };
    let unsure = Confidence::Degraded { lost: 0 };
    assert_eq!(confidence("pods", 1_000, 2_000, false), unsure);
    assert_eq!(
        confidence("pods", 1_000, 2_000, true),
        Confidence::Full,
        "it watches no pod of n2"
    );
    assert_eq!(confidence("endpointslices", 1_000, 2_000, true), unsure);
    assert_eq!(
        confidence("replicasets", 150, 200, false),
        unsure,
        "who deleted it"
    );
    assert_eq!(confidence("pods", 10, 20, false), Confidence::Full, "it was over");
    assert_eq!(
        confidence("pods", 7_000, 8_000, false),
        Confidence::Full,
        "it had been judged"
    );
}

#[test]
fn what_began_before_the_first_lists_were_in_is_marked() {
    let confidence = |synced: u64| {
        let mut world = ended_pod();
        world.reset(140, "NO_SOCKET", true);
        world.at(synced, What::Synced);
        world.inputs.sort_by_key(|i| i.at);
        world.only_verdict().confidence
    };
    assert_eq!(confidence(50), Confidence::Full);
    assert_eq!(confidence(120), Confidence::Degraded { lost: 0 });
}

#[test]
fn what_is_judged_too_early_because_zdt_ends_is_marked() {
    let gaps_of = |stopped: u64| {
        let mut world = ended_pod();
        world.reset(140, "NO_SOCKET", true);
        world.at(stopped, What::Stopping);
        let verdict = world.only_verdict();
        gaps(&verdict).join(",")
    };
    assert_eq!(gaps_of(2_000), "end", "it is judged 2 s after its end, at 2.14 s");
    assert_eq!(gaps_of(2_200), "");
}
