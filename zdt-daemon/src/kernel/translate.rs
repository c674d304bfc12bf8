//! Numbers become names: a decoded event becomes an [`Observation`]. Nothing behind this sees a kernel number.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use zdt_common::{Addr, Cgroup, Decoded, Event, NO_REASON, SIGNAL_NO_CODE, SockView, Task};

use super::{answer::answer, packet::packet, resets};

use crate::input::{
    Attribution, CgroupId, Input, Ktime, NetnsInum, Observation, Place, PodUid, Side, Sock, TcpCounters,
    TcpState, What,
};

/// TCP flags. What has both begins nothing: a SYN-ACK that finds its client's socket gone is answered with a RST, too.
const SYN: u8 = 2;
const ACK: u8 = 16;

/// TRACE_SIGNAL_IGNORED (include/trace/events/signal.h)
const SIGNAL_IGNORED: i32 = 1;

/// A first SYN longer ago than this is no first SYN: retries end after `tcp_syn_retries`, minutes at most.
const OLDEST_SYN_MS: u32 = 3_600_000;

/// Makes observations of one kernel's events.
#[derive(Clone, Debug, Default)]
pub struct Translator {
    reset_reasons: BTreeMap<u32, String>,
    drop_reasons: BTreeMap<u32, String>,
    hz: u32,
}

impl Translator {
    /// `enum sk_rst_reason` and `enum skb_drop_reason` by value, from BTF; jiffies in a second.
    pub fn new(reset_reasons: BTreeMap<u32, String>, drop_reasons: BTreeMap<u32, String>, hz: u32) -> Self {
        Self {
            reset_reasons,
            drop_reasons,
            hz,
        }
    }

    /// An event as an input.
    pub fn input(&self, decoded: &Decoded<'_>) -> Input {
        Input {
            at: Ktime(decoded.ktime_ns),
            what: What::Kernel(self.observation(decoded)),
        }
    }

    /// An event with names.
    pub fn observation(&self, decoded: &Decoded<'_>) -> Observation {
        let at = Ktime(decoded.ktime_ns);
        match decoded.event {
            Event::InetSockSetState(e) => Observation::FlowEnd {
                sock: sock(&e.view, at),
                old: state(e.old_state),
                new: state(e.new_state),
                exiting: e.exiting != 0,
                tgid: e.tgid,
            },
            Event::Listen(e) => Observation::Listener {
                place: place(&e.cgroup, e.netns),
                local: SocketAddr::new(ip(e.laddr), e.lport),
                open: e.open != 0,
                exiting: e.exiting != 0,
                tgid: e.tgid,
            },
            Event::TcpSendReset(e) | Event::TcpV4SendReset(e) | Event::TcpV6SendReset(e) => {
                let to_syn = e.answered_flags & (SYN | ACK) == SYN;
                Observation::ResetSent {
                    sock: sock(&e.view, at),
                    reason: reason(&self.reset_reasons, e.reason)
                        .or_else(|| resets::told_by_the_place(e).map(str::to_owned)),
                    to_syn,
                    has_socket: e.has_sk != 0,
                    isn: to_syn.then_some(e.answered_seq),
                }
            }
            Event::TcpReceiveReset(e) => Observation::ResetReceived {
                sock: sock(&e.view, at),
            },
            Event::InetSkErrorReport(e) => Observation::SockError {
                sock: sock(&e.view, at),
            },
            Event::TcpRetransmitSkb(e) => Observation::Retransmit {
                sock: sock(&e.view, at),
                err: e.err,
                silent_ms: (u64::from(e.silent) * 1_000)
                    .checked_div(u64::from(self.hz))
                    .filter(|_| e.view.bytes_received > 0),
            },
            Event::SignalGenerate(e) => Observation::Signal {
                place: task_place(&e.target),
                pid: e.target.pid,
                tgid: e.target.tgid,
                comm: text(&e.target.comm),
                sig: e.sig,
                code: (e.code != SIGNAL_NO_CODE).then_some(e.code),
                delivered: e.result != SIGNAL_IGNORED,
                sender_tgid: e.sender_tgid,
                sender_comm: text(&e.sender_comm),
            },
            Event::SchedProcessExit(e) => Observation::Exit {
                place: task_place(&e.task),
                tgid: e.task.tgid,
                comm: text(&e.task.comm),
                exit_code: e.exit_code,
            },
            Event::MarkVictim(e) => Observation::OomVictim {
                place: task_place(&e.task),
                pid: e.task.pid,
                comm: text(&e.task.comm),
            },
            Event::XtReplace(e) => Observation::TableReplaced {
                netns: NetnsInum(e.netns),
                family: u8::try_from(e.family).unwrap_or(0),
                table: text(&e.table),
                by: text(&e.comm),
                tgid: u32::try_from(e.pid_tgid >> 32).unwrap_or(0),
            },
            Event::KfreeSkb(e) => Observation::Dropped {
                packet: packet(&e.packet),
                reason: reason(&self.drop_reasons, e.reason),
            },
            Event::IcmpSend(e) => Observation::IcmpSent {
                packet: packet(&e.packet),
                kind: e.kind,
                code: e.code,
            },
            Event::NetDevQueue(e) => Observation::Forwarded {
                packet: packet(&e.packet),
            },
            Event::ListenQueue(e) => Observation::ListenQueue {
                netns: NetnsInum(e.netns),
                local: SocketAddr::new(ip(e.laddr), e.lport),
                since: Ktime(e.since_ns),
                // It may wrap.
                dropped: e.drops.wrapping_sub(e.drops_before),
                waiting: e.backlog,
                backlog: e.max,
            },
            Event::CgroupSkbEgress(e) => answer(e, at),
        }
    }
}

/// The name of a reason; None: the kernel gave none.
fn reason(names: &BTreeMap<u32, String>, reason: u32) -> Option<String> {
    if reason == NO_REASON {
        return None;
    }
    let name = names.get(&reason);
    Some(name.cloned().unwrap_or_else(|| format!("UNKNOWN_{reason}")))
}

pub(super) fn sock(view: &SockView, at: Ktime) -> Sock {
    let state = state(view.state);
    Sock {
        side: if view.server == 0 {
            Side::Client
        } else {
            Side::Server
        },
        local: SocketAddr::new(ip(view.laddr), view.lport),
        remote: SocketAddr::new(ip(view.raddr), view.rport),
        netns: NetnsInum(view.netns),
        cgroup: CgroupId(view.cgroup_id),
        cookie: view.cookie,
        state,
        err: view.err,
        err_soft: view.err_soft,
        tcp: (view.full != 0).then(|| TcpCounters {
            bytes_received: view.bytes_received,
            bytes_sent: view.bytes_sent,
            bytes_acked: view.bytes_acked,
            data_segs_in: view.data_segs_in,
            data_segs_out: view.data_segs_out,
            unread: view.rcv_nxt.wrapping_sub(view.copied_seq),
            since_last_segment: view.rcv_nxt.wrapping_sub(view.rcv_wup),
            unacked: view.write_seq.wrapping_sub(view.snd_una),
            unsent: view.write_seq.wrapping_sub(view.snd_nxt),
            since_last_acked: view.rcv_nxt.wrapping_sub(view.snd_wl1),
            last_in_after_out_jiffies: view.lrcvtime.wrapping_sub(view.lsndtime).cast_signed(),
            retransmits: view.retransmits,
            first_syn: (state == TcpState::SynSent)
                .then(|| first_syn(view.retrans_stamp, at))
                .flatten(),
            isn: (state == TcpState::SynSent).then_some(view.snd_una),
        }),
    }
}

/// The full time of a stamp of which the kernel keeps the low 32 bits in milliseconds.
fn first_syn(stamp_ms: u32, now: Ktime) -> Option<Ktime> {
    let now_ms = now.0 / 1_000_000;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low 32 bits are what the kernel keeps"
    )]
    let ago = (now_ms as u32).wrapping_sub(stamp_ms);
    (stamp_ms != 0 && ago <= OLDEST_SYN_MS).then(|| Ktime(now_ms.saturating_sub(u64::from(ago)) * 1_000_000))
}

pub(super) fn ip(addr: Addr) -> IpAddr {
    Ipv6Addr::from(addr.0).to_canonical()
}

/// include/net/tcp_states.h
pub(super) fn state(number: u8) -> TcpState {
    match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        _ => TcpState::Unknown,
    }
}

fn task_place(task: &Task) -> Place {
    place(&task.cgroup, task.netns)
}

fn place(cgroup: &Cgroup, netns: u32) -> Place {
    Place {
        cgroup: CgroupId(cgroup.id),
        netns: NetnsInum(netns),
        attribution: attribution(&text(&cgroup.pod), &text(&cgroup.leaf)),
    }
}

/// Whose cgroup it is, by the names of the pod's directory and of the container's below it.
fn attribution(pod: &str, container: &str) -> Attribution {
    if pod.is_empty() {
        return Attribution::Unknown("the kernel gave no cgroup".to_owned());
    }
    match pod_uid(pod) {
        Some(uid) => Attribution::Pod {
            uid: PodUid(uid.into()),
            container: container_id(container).to_owned(),
        },
        None => Attribution::Unknown(format!("cgroup {pod} names no pod")),
    }
}

/// `pod<uid>` (cgroupfs driver) or `[prefix-]kubepods[-<qos>]-pod<uid with underscores>.slice` (systemd driver).
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let plausible = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plausible.then_some(uid)
}

/// `<id>` (cgroupfs driver; CRI-O: `crio-<id>`) or `<runtime>-<id>.scope` (systemd driver). CRI-O's monitor is no container.
fn container_id(name: &str) -> &str {
    let Some(scope) = name.strip_suffix(".scope") else {
        if name.starts_with("crio-conmon-") {
            return "";
        }
        return name.strip_prefix("crio-").unwrap_or(name);
    };
    if scope.starts_with("crio-conmon-") {
        return "";
    }
    scope.rsplit_once('-').map_or(scope, |(_, id)| id)
}

/// Text up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
