//! Tests of `translate`: names, addresses and times of events that the kernel half could have made.

use proptest::prelude::*;
use zdt_common::{ABI, Header, Hook, ResetSent, StateChange, decode};
use zerocopy::{FromZeros, IntoBytes};

use super::*;

const UID: &str = "8d2f0c7e-6b1a-4f0e-9b39-2f6f6c0f9a11";
const ID: &str = "4f1c8ad0c4b14d5f9a1c6a1f3f2d9e0b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";

fn pod(uid: &str, container: &str) -> Attribution {
    Attribution::Pod {
        uid: PodUid(uid.into()),
        container: container.to_owned(),
    }
}

#[test]
fn cgroupfs_names_give_uid_and_container() {
    assert_eq!(attribution(&format!("pod{UID}"), ID), pod(UID, ID));
}

#[test]
fn systemd_names_give_uid_and_container() {
    let underscores = UID.replace('-', "_");
    for slice in [
        format!("kubepods-pod{underscores}.slice"),
        format!("kubepods-burstable-pod{underscores}.slice"),
        format!("kubepods-besteffort-pod{underscores}.slice"),
        format!("kubelet-kubepods-besteffort-pod{underscores}.slice"),
    ] {
        for scope in ["cri-containerd", "crio", "docker"] {
            assert_eq!(attribution(&slice, &format!("{scope}-{ID}.scope")), pod(UID, ID));
        }
    }
}

/// The pod's directory and the one below it, as the kernel half finds them on its way up (zdt-ebpf/src/cgroup.rs, `pod_of` and
/// `is_pod`): seven levels at most.
fn climbed(path: &str) -> (String, String) {
    let mut below = "";
    for name in path.rsplit('/').take(7) {
        let seen = name.get(..name.len().min(39)).unwrap_or(name);
        let slice = seen.find("pods").is_some_and(|at| seen[at..].contains("-pod"));
        if seen.starts_with("pod") || slice {
            return (name.to_owned(), below.to_owned());
        }
        below = name;
    }
    (String::new(), String::new())
}

#[test]
fn each_runtime_and_driver_is_known_by_its_path() {
    let under = UID.replace('-', "_");
    for path in [
        // containerd, cgroupfs (config.toml SystemdCgroup = false), each QoS class.
        format!("/kubepods/pod{UID}/{ID}"),
        format!("/kubepods/burstable/pod{UID}/{ID}"),
        format!("/kubepods/besteffort/pod{UID}/{ID}"),
        // containerd, systemd.
        format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
        ),
        // CRI-O; with crun a container has a directory of its own below its scope.
        format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/crio-{ID}.scope"
        ),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/crio-{ID}.scope/container"
        ),
        format!("/kubepods/burstable/pod{UID}/crio-{ID}"),
        // Docker behind cri-dockerd.
        format!("/kubepods/burstable/pod{UID}/{ID}"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/docker-{ID}.scope"
        ),
        // kind, and a kubelet with --cgroup-root.
        format!(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-{ID}.scope"
        ),
        format!("/kubelet/kubepods/besteffort/pod{UID}/{ID}"),
        // systemd, or a container runtime, inside of the container.
        format!(
            "/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope/system.slice/nginx.service"
        ),
        format!("/kubepods/pod{UID}/{ID}/init.scope"),
    ] {
        let (of_pod, leaf) = climbed(&path);
        assert_eq!(attribution(&of_pod, &leaf), pod(UID, ID), "{path}");
    }
}

#[test]
fn version_1_and_hybrid_hosts_have_no_pod_in_version_2s_tree() {
    // There every process is in the root of version 2 (v1), or where systemd put its unit (hybrid): it is told by its network
    // namespace and address instead.
    for path in [
        "/",
        "/system.slice/containerd.service",
        "/init.scope",
        "/user.slice/user-0.slice/session-1.scope",
    ] {
        assert_eq!(climbed(path), (String::new(), String::new()), "{path}");
    }
    assert!(matches!(attribution("", ""), Attribution::Unknown(_)));
}

#[test]
fn static_pods_have_a_hash_for_a_uid() {
    let uid = "5b1f2f3f4c5d6e7f8091a2b3c4d5e6f7";
    assert_eq!(attribution(&format!("pod{uid}"), ID), pod(uid, ID));
}

#[test]
fn the_pods_own_cgroup_and_a_monitor_are_no_container() {
    assert_eq!(attribution(&format!("pod{UID}"), ""), pod(UID, ""));
    assert_eq!(
        attribution(&format!("pod{UID}"), &format!("crio-conmon-{ID}.scope")),
        pod(UID, "")
    );
}

#[test]
fn what_names_no_pod_is_unknown_and_says_so() {
    assert_eq!(
        attribution("", ""),
        Attribution::Unknown("the kernel gave no cgroup".to_owned())
    );
    for name in ["system.slice", "pod", "pod..", "kubepods.slice"] {
        assert!(matches!(attribution(name, ""), Attribution::Unknown(why) if why.contains(name)));
    }
}

#[test]
fn v4_mapped_addresses_are_ipv4() {
    assert_eq!(ip(Addr::v4([10, 1, 2, 3])).to_string(), "10.1.2.3");
    assert_eq!(ip(Addr::v4([0; 4])).to_string(), "0.0.0.0");
    assert_eq!(ip(Addr([0; 16])).to_string(), "::");
}

#[test]
fn a_reason_has_its_name_or_its_number_or_none() {
    let names = BTreeMap::from([(3, "NO_SOCKET".to_owned())]);
    assert_eq!(reason(&names, 3).as_deref(), Some("NO_SOCKET"));
    assert_eq!(reason(&names, 77).as_deref(), Some("UNKNOWN_77"));
    assert_eq!(reason(&names, u32::MAX), None);
}

#[test]
fn counters_are_differences_modulo_2_to_32_and_only_of_full_sockets() {
    let mut view = SockView {
        rcv_nxt: 5,
        copied_seq: u32::MAX - 4,
        rcv_wup: 4,
        write_seq: 2,
        snd_una: u32::MAX,
        lrcvtime: 1,
        lsndtime: u32::MAX,
        full: 1,
        server: 1,
        ..SockView::default()
    };
    let translated = sock(&view, Ktime(0));
    let tcp = translated.tcp.unwrap();
    assert_eq!((tcp.unread, tcp.since_last_segment, tcp.unacked), (10, 1, 3));
    assert_eq!(tcp.last_in_after_out_jiffies, 2);
    assert_eq!(translated.side, Side::Server);
    view.full = 0;
    assert_eq!(sock(&view, Ktime(0)).tcp, None);
}

#[test]
fn only_a_syn_sent_socket_has_a_first_syn() {
    let now = Ktime(90_000 * 1_000_000);
    let view = |state| SockView {
        state,
        full: 1,
        retrans_stamp: 88_000,
        ..SockView::default()
    };
    let first = |state| sock(&view(state), now).tcp.unwrap().first_syn;
    assert_eq!(first(2), Some(Ktime(88_000 * 1_000_000)));
    assert_eq!(first(1), None);
}

proptest! {
    /// The kernel keeps 32 bits of milliseconds, 49 days; uptime goes beyond that.
    #[test]
    fn the_first_syn_is_found_again_at_any_uptime(
        now_ms in 4_000_000u64..10_000_000_000_000,
        ago_ms in 0u64..3_600_000,
    ) {
        let stamp = u32::try_from((now_ms - ago_ms) & u64::from(u32::MAX)).unwrap();
        let found = first_syn(stamp, Ktime(now_ms * 1_000_000 + 999_999));
        if stamp == 0 {
            prop_assert_eq!(found, None);
        } else {
            prop_assert_eq!(found, Some(Ktime((now_ms - ago_ms) * 1_000_000)));
        }
    }

    #[test]
    fn no_bytes_make_decoding_or_translation_panic(
        hook in 0u16..12,
        abi in 0u16..3,
        len in 0u32..600,
        words in proptest::collection::vec(any::<u64>(), 0..80),
    ) {
        let header = Header { ktime_ns: 1, abi, hook, len };
        let mut aligned: Vec<u64> = vec![0; 2];
        aligned.as_mut_slice().as_mut_bytes().copy_from_slice(header.as_bytes());
        aligned.extend(words);
        if let Ok(decoded) = decode(aligned.as_bytes()) {
            let input = Translator::default().input(&decoded);
            let line = serde_json::to_string(&input).unwrap();
            prop_assert_eq!(serde_json::from_str::<Input>(&line).unwrap(), input);
        }
    }

    #[test]
    fn a_reset_keeps_ends_side_and_flags(
        laddr: [u8; 16], raddr: [u8; 16], lport: u16, rport: u16, server in 0u8..2, flags: u8, has_sk in 0u8..2,
    ) {
        let mut event = ResetSent::new_zeroed();
        event.view = SockView {
            laddr: Addr(laddr), raddr: Addr(raddr), lport, rport, server, ..SockView::default()
        };
        event.answered_flags = flags;
        event.has_sk = has_sk;
        event.reason = u32::MAX;
        let decoded = Decoded { ktime_ns: 7, hook: Hook::TcpSendReset, event: Event::TcpSendReset(&event) };
        let Observation::ResetSent { sock, reason, to_syn, has_socket, .. } = Translator::default().observation(&decoded)
        else { panic!("another observation") };
        prop_assert_eq!(sock.local.port(), lport);
        prop_assert_eq!(sock.remote.port(), rport);
        prop_assert_eq!(sock.local.ip(), Ipv6Addr::from(laddr).to_canonical());
        prop_assert_eq!(sock.side == Side::Server, server == 1);
        prop_assert_eq!((reason, to_syn, has_socket), (None, flags & 2 != 0 && flags & 16 == 0, has_sk == 1));
    }
}

#[test]
fn decoding_refuses_what_it_does_not_know() {
    use zdt_common::DecodeError;
    let len = u32::try_from(size_of::<StateChange>()).unwrap();
    let with = |abi, hook, len, bytes: usize| {
        let header = Header {
            ktime_ns: 1,
            abi,
            hook,
            len,
        };
        let mut aligned = vec![0u64; 2 + bytes / 8];
        aligned.as_mut_bytes()[..16].copy_from_slice(header.as_bytes());
        decode(aligned.as_bytes()).map(|d| d.hook)
    };
    assert_eq!(with(ABI, 0, len, len as usize).unwrap(), Hook::InetSockSetState);
    assert_eq!(
        with(ABI + 1, 0, len, len as usize).unwrap_err(),
        DecodeError::Abi(ABI + 1)
    );
    assert_eq!(
        with(ABI, 99, len, len as usize).unwrap_err(),
        DecodeError::UnknownHook(99)
    );
    assert!(matches!(
        with(ABI, 0, len, 8).unwrap_err(),
        DecodeError::Short { .. }
    ));
    assert!(matches!(
        with(ABI, 0, len - 8, len as usize).unwrap_err(),
        DecodeError::Short { .. }
    ));
    let aligned = [0u64; 4];
    assert_eq!(
        decode(&aligned.as_bytes()[1..]).unwrap_err(),
        DecodeError::Misaligned
    );
}
