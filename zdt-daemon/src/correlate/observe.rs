//! Where each observation of the kernel goes.

use super::{Correlator, ExitSeen, SignalSeen};
use crate::input::{Ktime, Observation};

impl Correlator {
    pub(super) fn observe(&mut self, at: Ktime, observation: &Observation) {
        match observation {
            Observation::Listener {
                place,
                local,
                open,
                exiting,
                tgid,
            } => {
                self.pods.listener(at, place, *local, *open, (*exiting, *tgid));
            }
            Observation::Signal {
                place,
                tgid,
                sig,
                code,
                delivered,
                sender_tgid,
                sender_comm,
                ..
            } => {
                let seen = SignalSeen {
                    at,
                    tgid: *tgid,
                    sig: *sig,
                    code: *code,
                    delivered: *delivered,
                    sender_tgid: *sender_tgid,
                    sender_comm: sender_comm.clone(),
                };
                self.pods.signal(place, seen);
            }
            Observation::Exit {
                place,
                tgid,
                comm,
                exit_code,
            } => {
                self.pods.exit(
                    place,
                    ExitSeen {
                        at,
                        tgid: *tgid,
                        comm: comm.clone(),
                        exit_code: *exit_code,
                    },
                );
            }
            Observation::OomVictim { place, .. } => self.pods.oom(at, place),
            // What changed with it comes as an input of its own, once the table has been read.
            Observation::TableReplaced { .. } => {}
            Observation::Forwarded { .. } | Observation::Dropped { .. } | Observation::IcmpSent { .. } => {
                let sent = self
                    .attempts
                    .observe(at, observation, self.settings.judge_grace_ms);
                if let Some(sent) = sent {
                    self.connected(sent);
                }
            }
            Observation::ListenQueue { .. } => self.queue_looked_at(at, observation),
            Observation::Answer { end: None, .. } => self.served_error(at, observation),
            Observation::FlowEnd { sock, .. }
            | Observation::Answer { sock, .. }
            | Observation::ResetSent { sock, .. }
            | Observation::ResetReceived { sock }
            | Observation::SockError { sock }
            | Observation::Retransmit { sock, .. } => {
                let side = self.side(at, sock);
                if !self.foreign(at, sock) && !self.strays.observe(at, side, observation) {
                    let grace_ms = self.settings.judge_grace_ms;
                    self.flows
                        .observe(at, side, observation, &self.endpoints, grace_ms);
                }
            }
        }
    }
}
