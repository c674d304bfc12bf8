//! Every delay of the lab's kubelet and kube-proxy: name, default, unit (milliseconds) and source.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A uniform range in milliseconds. In YAML and JSON: a number, or `[least, most]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "[f64; 2]")]
pub struct Delay {
    pub least_ms: f64,
    pub most_ms: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Fixed(f64),
    Range([f64; 2]),
}

impl From<Written> for Delay {
    fn from(written: Written) -> Self {
        match written {
            Written::Fixed(ms) => Self::fixed(ms),
            Written::Range([least_ms, most_ms]) => Self { least_ms, most_ms },
        }
    }
}

impl From<Delay> for [f64; 2] {
    fn from(delay: Delay) -> Self {
        [delay.least_ms, delay.most_ms]
    }
}

impl Delay {
    pub const fn fixed(ms: f64) -> Self {
        Self {
            least_ms: ms,
            most_ms: ms,
        }
    }

    /// One draw.
    pub fn draw(&self, random: &mut fastrand::Rng) -> Duration {
        let ms = self.least_ms + random.f64() * (self.most_ms - self.least_ms);
        Duration::from_secs_f64((ms / 1e3).clamp(0.0, 86_400.0))
    }
}

/// Declares the settings, so that name, default and source stand in one place.
macro_rules! timings {
    ($($(#[doc = $doc:literal])* $name:ident = [$least:literal, $most:literal], $source:literal;)*) => {
        /// Delays of one node. Names are the same in scenario files.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct Timings { $($(#[doc = $doc])* pub $name: Delay),* }

        impl Default for Timings {
            fn default() -> Self {
                Self { $($name: Delay { least_ms: $least, most_ms: $most }),* }
            }
        }

        impl Timings {
            /// (name, least and most in milliseconds, where the default comes from)
            pub const SOURCES: &'static [(&'static str, [f64; 2], &'static str)] =
                &[$((stringify!($name), [$least, $most], $source)),*];
        }
    };
}

timings! {
    /// Pod assigned to the node → sandbox up (PodReadyToStartContainers).
    sandbox_ready_ms = [380.0, 450.0], "watch stream of a real cluster (1.36.2, containerd 2.1.9): 412 to 549 ms after creation";
    /// Sandbox up → containers run and phase Running is reported.
    containers_started_ms = [50.0, 80.0], "same stream: 56 to 125 ms after the sandbox";
    /// A probe result changes → the Ready condition is reported.
    ready_reported_ms = [5.0, 20.0], "same stream: 5 to 20 ms after Running";
    /// deletionTimestamp seen (and preStop over) → SIGTERM to PID 1.
    sigterm_ms = [11.0, 24.0], "signal_generate on a real cluster: +11 to +24 ms";
    /// deletionTimestamp seen → a second, otherwise unchanged status report.
    terminating_reported_ms = [18.0, 24.0], "same stream: +10 to +24 ms";
    /// Last app container dead → SIGKILL to the sandbox's pause process.
    pause_killed_ms = [26.0, 34.0], "signal_generate: +50 ms, with the exit at +12 to +25 ms";
    /// pause killed → network teardown starts (veth deleted, namespace removed; takes about 8 ms).
    network_gone_ms = [0.0, 16.0], "connections are refused until +50 to +80 ms, then silence";
    /// Last app container dead → phase Succeeded or Failed, Ready False.
    terminal_reported_ms = [95.0, 108.0], "same stream: +115 to +130 ms after the deletion";
    /// Terminal status → deletion with grace 0 and the object's removal.
    removed_ms = [380.0, 1380.0], "same stream: +0.5 to +1.5 s after the deletion";
    /// Container died by itself → the kubelet notices.
    exit_noticed_ms = [0.0, 1000.0], "PLEG relists each second (pkg/kubelet/kubelet.go, genericPlegRelistPeriod)";
    /// First wait before a crashed container's second restart; doubles up to 300 s. The first restart waits for none.
    crash_back_off_ms = [10000.0, 10000.0], "pkg/kubelet/kubelet.go, MaxCrashLoopBackOff and initialCrashLoopBackOff";
    /// What is left for the app when preStop used up the grace period.
    grace_after_pre_stop_ms = [2000.0, 2000.0], "pkg/kubelet/kuberuntime/kuberuntime_container.go, minimumGracePeriodInSeconds";
    /// Least time between two syncs of kube-proxy's rules.
    min_sync_period_ms = [1000.0, 1000.0], "KubeProxyConfiguration iptables.minSyncPeriod, default 1s";
    /// A change reaches this node's kube-proxy this much late (a slow watch, a busy node).
    proxy_late_ms = [0.0, 0.0], "none on the measured cluster; scenarios set it";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_or_a_range() {
        let timings: Timings = serde_json::from_str(r#"{"proxyLateMs": 1000, "sigtermMs": [1, 2]}"#).unwrap();
        assert_eq!(timings.proxy_late_ms, Delay::fixed(1000.0));
        assert_eq!(
            timings.sigterm_ms,
            Delay {
                least_ms: 1.0,
                most_ms: 2.0
            }
        );
        assert_eq!(timings.min_sync_period_ms, Delay::fixed(1000.0));
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        assert!(serde_json::from_str::<Timings>(r#"{"proxyLate": 1}"#).is_err());
    }

    #[test]
    fn every_default_has_a_source() {
        assert!(
            Timings::SOURCES
                .iter()
                .all(|(_, [least, most], source)| least <= most && !source.is_empty())
        );
    }
}
