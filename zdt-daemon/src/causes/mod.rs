//! The causes, one file each: what it is, how it is told from its look-alikes, the rule, the advice.
//!
//! A rule is a causal link between one failed flow and one pod, endpoint or process. It never concludes from "at about
//! the same time" (invariant I12). The first rule of [`RULES`] that matches names the cause.

mod accept_queue_flush;
mod accept_queue_overflow;
pub mod amplifiers;
mod client_abort;
mod conntrack_insert_failed;
mod conntrack_table_full;
mod crash_after_ready;
mod cut;
mod doubt;
mod ended;
mod endpoint_removal_race;
mod error_while_draining;
mod fix;
mod grace_period_exceeded;
mod half_open_purge;
mod immediate_exit;
mod invalid_spurious_reset;
mod keep_alive;
mod keep_alive_mismatch;
mod keep_alive_race;
mod kubelet_probe;
mod liveness_kill;
mod local_policy_no_endpoint;
mod no_endpoints;
mod oom_kill;
mod ordinary_crash;
mod page;
mod pod_ip_gone;
mod pod_ip_reused;
mod policy_drop;
mod port_never_served;
pub(crate) mod pre_stop;
mod pre_stop_overrun;
mod proxy_reload;
mod proxy_still_balances;
mod queue_full;
mod refused_by_conntrack;
mod reload;
mod response_lost_in_teardown;
pub(crate) mod sample;
mod stale_conntrack_entry;
mod stale_node_port;
mod stale_udp_entry;
mod steady_overload;
mod terminating_endpoint_fallback;
mod traffic_before_listening;
pub(crate) mod unexplained;
mod unheard;
mod upstream_client_ended;
mod wrong_port;

pub(crate) use doubt::{costs, doubts, say_costs};
pub(crate) use ended::ended_by;
pub use page::page;
pub(crate) use pre_stop::{ENOUGH_PODS, MARGIN_MS, savings};
pub use sample::{Sample, Setting};
pub(crate) use sample::{quantile, say_ms, sum_up};
pub use unexplained::NAME as UNEXPLAINED;

use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

/// One cause.
#[derive(Debug)]
pub struct Rule {
    /// kebab-case; the only place where it is spelled.
    pub name: &'static str,
    /// Id in the catalogue of failure modes.
    pub id: &'static str,
    pub blame: Blame,
    /// What it is, in one sentence.
    pub what: &'static str,
    /// How it is told from its look-alikes.
    pub told_by: &'static str,
    /// What to change.
    pub remedy: &'static str,
    /// The setting that prevents it, as YAML; None: no object of Kubernetes has it.
    pub fix: Option<&'static str>,
    /// Hooks, and details of them, without which it cannot be named, or not be told from a look-alike: where one is missing, a
    /// verdict that names it is unsure.
    pub needs: &'static [&'static str],
    /// The causal link, or None.
    pub judge: fn(&Case<'_>) -> Option<Finding>,
    /// One line over all its samples in a rollout.
    pub summarise: fn(&[&Sample], &Setting) -> String,
    /// The setting that would have prevented them.
    pub advise: fn(&[&Sample], &Setting) -> Option<Advice>,
}

/// Every cause, in the order in which they are asked: what is no request first, then the causes with the strictest
/// evidence.
pub const RULES: &[&Rule] = &[
    &kubelet_probe::RULE,
    &error_while_draining::RULE,
    &port_never_served::RULE,
    &terminating_endpoint_fallback::RULE,
    &no_endpoints::RULE,
    &local_policy_no_endpoint::RULE,
    &conntrack_table_full::RULE,
    &conntrack_insert_failed::RULE,
    &policy_drop::RULE,
    &pod_ip_reused::RULE,
    &proxy_still_balances::RULE,
    &endpoint_removal_race::RULE,
    &wrong_port::RULE,
    &traffic_before_listening::RULE,
    &accept_queue_flush::RULE,
    &accept_queue_overflow::RULE,
    &steady_overload::RULE,
    &stale_udp_entry::RULE,
    &half_open_purge::RULE,
    &response_lost_in_teardown::RULE,
    &stale_conntrack_entry::RULE,
    &stale_node_port::RULE,
    &pod_ip_gone::RULE,
    &invalid_spurious_reset::RULE,
    &proxy_reload::RULE,
    &keep_alive_race::RULE,
    &keep_alive_mismatch::RULE,
    &pre_stop_overrun::RULE,
    &grace_period_exceeded::RULE,
    &immediate_exit::RULE,
    &oom_kill::RULE,
    &liveness_kill::RULE,
    &crash_after_ready::RULE,
    &ordinary_crash::RULE,
    &upstream_client_ended::RULE,
    &client_abort::RULE,
];
