//! Tests of the watcher's recovery, in network namespaces of their own: they need root, `nft` and `iptables-nft`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::{
    clock,
    netfilter::{
        losses::{Counts, Loss},
        ruleset::{Protocol, Route, RouteChange},
    },
};

const ONE_SERVICE: &str = "
    add table ip kube-proxy
    add chain ip kube-proxy nat-output { type nat hook output priority -100; }
    add chain ip kube-proxy services
    add chain ip kube-proxy service-web
    add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
    add rule ip kube-proxy nat-output jump services
    add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
    add rule ip kube-proxy service-web meta l4proto tcp dnat ip to 10.0.0.1:80
    add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 : goto service-web }";

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn feed(command: &str, input: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command}");
}

fn run(command: &str) {
    feed(command, "");
}

fn nft(input: &str) {
    feed("nft -f -", input);
}

fn route(protocol: Protocol, to: &str) -> Route {
    Route {
        protocol,
        to: to.parse().unwrap(),
    }
}

fn tcp(to: &str) -> Route {
    route(Protocol::Tcp, to)
}

/// Notifications are there when the writer has its answer.
fn told(watcher: &mut Watcher) -> Vec<Generation> {
    watcher.next_generations(clock::now()).unwrap()
}

fn watched(watcher: &Watcher) -> Vec<Route> {
    watcher.routes().iter().copied().collect()
}

#[test]
fn an_overrun_is_counted_and_recovered_by_one_dump() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::with_room(4096, MOST_EDGES).unwrap();
        let rule =
            |port| format!("add rule ip kube-proxy service-web meta l4proto udp dnat ip to 10.0.0.1:{port}");
        let much = (2..200).map(rule).collect::<Vec<_>>().join("\n");
        nft(&much);
        nft("add rule ip kube-proxy service-web meta l4proto sctp dnat ip to 10.0.0.3:1");

        let generations = told(&mut watcher);

        let [generation] = &generations[..] else {
            panic!("{generations:#?}")
        };
        assert!(generation.resynced);
        assert_eq!(generation.change.added.len(), 199);
        assert_eq!(generation.change.removed, []);
        assert_eq!(watcher.routes().len(), 200);
        let losses = watcher.losses();
        assert!(losses.overruns > 0);
        assert_eq!((losses.resyncs, losses.unparsed, losses.gaps), (1, 0, 0));
        assert_eq!(losses.counts().of(Loss::Overrun), losses.overruns);

        // From here on nothing is lost: it follows again.
        nft("add rule ip kube-proxy service-web meta l4proto tcp dnat ip to 10.0.0.9:1");
        let generations = told(&mut watcher);
        assert_eq!(generations[0].change.added, [tcp("10.0.0.9:1")]);
        assert!(!generations[0].resynced);
        assert_eq!(watcher.losses(), losses);
    });
}

#[test]
fn a_table_deleted_by_hand_takes_its_routes_along_and_is_counted() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        nft("delete table ip kube-proxy");
        let generations = told(&mut watcher);
        assert_eq!(generations.len(), 1);
        assert_eq!(generations[0].change.removed, [tcp("10.0.0.1:80")]);
        assert_eq!(generations[0].by.as_deref(), Some("nft"));
        assert!(generations[0].resynced);
        assert_eq!(watcher.losses().tables_deleted, 1);
        assert!(watcher.routes().is_empty());
        nft(ONE_SERVICE);
        assert_eq!(told(&mut watcher)[0].change.added, [tcp("10.0.0.1:80")]);
    });
}

#[test]
fn a_flush_by_hand_is_told_counted_and_read_anew_once() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        nft("flush chain ip kube-proxy nat-output");
        let generations = told(&mut watcher);
        let [flushed, read_anew] = &generations[..] else {
            panic!("{generations:#?}")
        };
        assert_eq!(flushed.change.removed, [tcp("10.0.0.1:80")]);
        assert!(!flushed.resynced && read_anew.resynced && read_anew.change.is_empty());
        let losses = watcher.losses();
        assert_eq!((losses.flushed, losses.resyncs), (1, 1));
        nft("add rule ip kube-proxy nat-output jump services");
        assert_eq!(told(&mut watcher)[0].change.added, [tcp("10.0.0.1:80")]);
        assert_eq!(watcher.losses(), losses);
    });
}

#[test]
fn a_service_without_endpoints_is_no_flush() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        nft("flush map ip kube-proxy service-ips");
        assert_eq!(told(&mut watcher)[0].change.removed, [tcp("10.0.0.1:80")]);
        assert_eq!(watcher.losses(), Losses::default());
    });
}

#[test]
fn a_flush_of_kube_proxys_entry_chain_in_iptables_mode_is_counted() {
    in_namespace(|| {
        feed(
            "iptables-nft-restore --noflush",
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-SEP-A - [0:0]
-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.96.0.1 -j KUBE-SVC-A
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n-A KUBE-SVC-A -j KUBE-SEP-A
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80\nCOMMIT\n",
        );
        let mut watcher = Watcher::open().unwrap();
        // The last endpoint goes as kube-proxy takes it: that is no flush.
        feed(
            "iptables-nft-restore --noflush",
            "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-SEP-A - [0:0]
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n-X KUBE-SVC-A\n-X KUBE-SEP-A\nCOMMIT\n",
        );
        assert_eq!(told(&mut watcher)[0].change.removed, [tcp("10.0.0.1:80")]);
        assert_eq!(watcher.losses(), Losses::default());
        feed(
            "iptables-nft-restore --noflush",
            "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SERVICES -d 10.96.0.1 -j KUBE-SVC-A
-A KUBE-SVC-A -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80\nCOMMIT\n",
        );
        assert_eq!(told(&mut watcher)[0].change.added, [tcp("10.0.0.1:80")]);
        run("iptables-nft -t nat -F KUBE-SERVICES");
        assert_eq!(told(&mut watcher)[0].change.removed, [tcp("10.0.0.1:80")]);
        assert_eq!((watcher.losses().flushed, watcher.losses().resyncs), (1, 1));
    });
}

#[test]
fn other_tools_rules_are_counted_and_their_translations_are_a_loss() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        assert_eq!(watcher.losses().foreign, 0);
        nft("add table inet firewall
            add chain inet firewall input { type filter hook input priority 0; }
            add rule inet firewall input tcp dport 22 accept");
        assert_eq!(told(&mut watcher), []);
        assert!(watcher.losses().foreign >= 3);
        assert_eq!(watcher.losses().counts(), Counts::default());
        // As Docker does it.
        feed(
            "iptables-nft-restore --noflush",
            "*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\n-A OUTPUT -p tcp --dport 81 -j DNAT --to-destination 10.9.0.1:81
-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n",
        );
        nft("add table ip other
            add chain ip other pre { type nat hook prerouting priority -110; }
            add rule ip other pre tcp dport 82 redirect to :83
            add rule ip other pre tcp dport 84 dnat to 10.9.0.1-10.9.0.4");
        assert_eq!(told(&mut watcher), []);
        assert_eq!(watched(&watcher), [tcp("10.0.0.1:80")]);
        assert_eq!(watcher.losses().counts().of(Loss::OtherTool), 4);
        assert_eq!((watcher.losses().unsupported, watcher.losses().resyncs), (0, 0));
        nft("delete table ip other");
        told(&mut watcher);
        assert_eq!(watcher.losses().counts().of(Loss::OtherTool), 6);
        // What was there before is nobody's loss.
        assert_eq!(Watcher::open().unwrap().losses().counts(), Counts::default());
    });
}

#[test]
fn a_translation_that_cannot_be_followed_is_counted_and_mends_by_itself() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        nft("add rule ip kube-proxy service-web meta l4proto tcp dnat ip to 10.0.0.1-10.0.0.4:80");
        assert_eq!(told(&mut watcher), []);
        assert_eq!(watcher.losses().counts().of(Loss::Unsupported), 1);
        nft("flush chain ip kube-proxy service-web
            add rule ip kube-proxy service-web meta l4proto tcp dnat ip to 10.0.0.2:80");
        assert_eq!(told(&mut watcher)[0].change.added, [tcp("10.0.0.2:80")]);
        assert_eq!(watched(&watcher), [tcp("10.0.0.2:80")]);
        assert_eq!((watcher.losses().unsupported, watcher.losses().resyncs), (1, 0));
    });
}

#[test]
fn rules_beyond_the_bound_are_counted_and_read_anew_when_there_is_room() {
    in_namespace(|| {
        const EDGES: usize = 64;
        nft(ONE_SERVICE);
        let mut watcher = Watcher::with_room(ROOM, EDGES).unwrap();
        let rule =
            |port| format!("add rule ip kube-proxy service-web meta l4proto tcp dnat ip to 10.0.0.2:{port}");
        nft(&(1..=100).map(rule).collect::<Vec<_>>().join("\n"));
        let known = told(&mut watcher)[0].change.added.len();
        assert!(known < EDGES, "{known}");
        let missing = 100 - u64::try_from(known).unwrap();
        assert_eq!(watcher.losses().counts().of(Loss::TooLarge), missing);
        assert_eq!(watcher.losses().resyncs, 0, "nothing would come of it");

        let rest = (90..=100).map(rule).collect::<Vec<_>>().join("\n");
        nft(&format!("flush chain ip kube-proxy service-web\n{rest}"));
        let generations = told(&mut watcher);
        assert!(generations.last().unwrap().resynced, "{generations:#?}");
        assert_eq!(watched(&watcher), watched(&Watcher::open().unwrap()));
        assert_eq!(watched(&watcher).len(), 11);
        assert_eq!(watcher.losses().resyncs, 1);
        nft(&rule(1));
        assert_eq!(told(&mut watcher)[0].change.added, [tcp("10.0.0.2:1")]);
        assert_eq!(watcher.losses().resyncs, 1);
    });
}

#[test]
fn session_affinity_in_nftables_mode_goes_through_endpoint_chains() {
    in_namespace(|| {
        nft(ONE_SERVICE);
        let mut watcher = Watcher::open().unwrap();
        let endpoint = |n: u8| {
            format!(
                "add chain ip kube-proxy endpoint-{n}
                add set ip kube-proxy affinity-{n} {{ type ipv4_addr; flags dynamic,timeout; timeout 10800s; }}
                add rule ip kube-proxy endpoint-{n} ip saddr 10.0.1.{n} meta mark set 0x4000
                add rule ip kube-proxy endpoint-{n} update @affinity-{n} {{ ip saddr }}
                add rule ip kube-proxy endpoint-{n} meta l4proto tcp dnat to 10.0.1.{n}:8080\n"
            )
        };
        nft(&format!(
            "{}{}flush chain ip kube-proxy service-web
            add rule ip kube-proxy service-web ip saddr @affinity-1 goto endpoint-1
            add rule ip kube-proxy service-web ip saddr @affinity-2 goto endpoint-2
            add rule ip kube-proxy service-web numgen random mod 2 vmap {{ 0 : goto endpoint-1, 1 : goto endpoint-2 }}",
            endpoint(1),
            endpoint(2)
        ));
        let change = RouteChange {
            added: vec![tcp("10.0.1.1:8080"), tcp("10.0.1.2:8080")],
            removed: vec![tcp("10.0.0.1:80")],
        };
        assert_eq!(told(&mut watcher)[0].change, change);

        // The map no longer leads to it, the affinity rule still does.
        nft("flush chain ip kube-proxy service-web
            add rule ip kube-proxy service-web ip saddr @affinity-1 goto endpoint-1
            add rule ip kube-proxy service-web numgen random mod 1 vmap { 0 : goto endpoint-2 }");
        assert_eq!(told(&mut watcher), []);
        nft("flush chain ip kube-proxy service-web
            add rule ip kube-proxy service-web numgen random mod 1 vmap { 0 : goto endpoint-2 }
            flush chain ip kube-proxy endpoint-1
            delete chain ip kube-proxy endpoint-1");
        assert_eq!(told(&mut watcher)[0].change.removed, [tcp("10.0.1.1:8080")]);
        assert_eq!(watcher.losses(), Losses::default());
        // What was followed is what a fresh look finds.
        assert_eq!(Watcher::open().unwrap().routes(), watcher.routes());
    });
}

#[test]
fn iptables_mode_knows_ipv6_udp_sctp_and_affinity() {
    in_namespace(|| {
        let mut watcher = Watcher::open().unwrap();
        feed(
            "ip6tables-nft-restore --noflush",
            "*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-SEP-C - [0:0]
:KUBE-SEP-UNUSED - [0:0]
-A OUTPUT -j KUBE-SERVICES
-A KUBE-SERVICES -d fd00:96::1/128 -j KUBE-SVC-A
-A KUBE-SVC-A -m recent --name KUBE-SEP-A --rcheck --seconds 10800 --reap -j KUBE-SEP-A
-A KUBE-SVC-A -j KUBE-SEP-B
-A KUBE-SVC-A -j KUBE-SEP-C
-A KUBE-SEP-A -p udp -m recent --name KUBE-SEP-A --set -m udp -j DNAT --to-destination [fd00::1]:53
-A KUBE-SEP-B -p sctp -m sctp -j DNAT --to-destination [fd00::2]:54
-A KUBE-SEP-C -s fd00::3/128 -j KUBE-MARK-MASQ
-A KUBE-SEP-C -p tcp -m tcp -j DNAT --to-destination [fd00::3]:55
-A KUBE-SEP-UNUSED -p tcp -m tcp -j DNAT --to-destination [fd00::4]:56
COMMIT
",
        );
        let added = told(&mut watcher)[0].change.added.clone();
        let expected = [
            tcp("[fd00::3]:55"),
            route(Protocol::Udp, "[fd00::1]:53"),
            route(Protocol::Sctp, "[fd00::2]:54"),
        ];
        assert_eq!(added, expected);
        assert_eq!(watched(&Watcher::open().unwrap()), expected);
        assert_eq!(watcher.losses(), Losses::default());
    });
}

#[test]
fn a_namespace_without_rules_has_no_routes() {
    in_namespace(|| {
        let watcher = Watcher::open().unwrap();
        assert!(watcher.routes().is_empty());
        assert_eq!(watcher.losses(), Losses::default());
    });
}
