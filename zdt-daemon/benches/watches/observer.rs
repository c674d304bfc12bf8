//! The watches and the correlator in one process, and what they cost it.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use zdt_daemon::{
    clock,
    cluster::{self, Change, KernelMaps, Watched},
    correlate::{Correlator, Settings},
    input::{Input, Ktime, What},
};

use super::{Size, figures::Column, server::written_at};

/// As long as `zdt run`'s channel.
const CHANNEL: usize = 16_384;
/// The first lists take seconds, in a debug build a minute.
const PATIENCE: Duration = Duration::from_mins(10);

/// One round's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    listed_s: f64,
    listed_cpu_s: f64,
    listed_mib: f64,
    cpu_percent: f64,
    after_mib: f64,
    changes_a_second: f64,
    lag_p50_ms: f64,
    lag_p99_ms: f64,
    lag_max_ms: f64,
}

impl Measured {
    pub const COLUMNS: [Column; 9] = [
        ("first lists s", 2),
        ("their CPU s", 2),
        ("memory MiB", 1),
        ("CPU %", 1),
        ("memory after MiB", 1),
        ("changes/s", 0),
        ("lag p50 ms", 2),
        ("lag p99 ms", 2),
        ("lag max ms", 2),
    ];

    pub fn values(&self) -> [f64; 9] {
        [
            self.listed_s,
            self.listed_cpu_s,
            self.listed_mib,
            self.cpu_percent,
            self.after_mib,
            self.changes_a_second,
            self.lag_p50_ms,
            self.lag_p99_ms,
            self.lag_max_ms,
        ]
    }
}

struct NoMaps;

impl KernelMaps for NoMaps {
    fn apply(&mut self, _: Change) -> Result<(), String> {
        Ok(())
    }
}

/// CPU time of this process so far, in seconds.
fn cpu_s() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6)
        .sum()
}

/// Resident memory of this process (proc(5), statm: the second field, in pages of 4 KiB).
fn memory_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}

pub fn observe(size: Size, addr: SocketAddr) -> Measured {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let dir = std::env::temp_dir().join(format!("zdt-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let kubeconfig = dir.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: \"http://{addr}\"}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let (client, url) = runtime.block_on(cluster::client(Some(&kubeconfig))).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();

    let (to, from) = mpsc::channel(CHANNEL);
    let (tell, synced) = oneshot::channel();
    let (began, cpu) = (Instant::now(), cpu_s());
    runtime.spawn(cluster::watch(Watched {
        client,
        url,
        node: "n0".into(),
        node_addrs: Box::new(Vec::new),
        maps: Box::new(NoMaps),
        stirred: watch::channel(Ktime::default()).1,
        to,
        synced: tell,
        reachable: Box::new(|_| {}),
    }));
    let (lags_to, lags) = std::sync::mpsc::channel();
    thread::spawn(move || consume(from, &lags_to));
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, synced).await })
        .expect("the first lists in time")
        .unwrap();
    let (listed_s, listed_cpu_s) = (began.elapsed().as_secs_f64(), cpu_s() - cpu);
    // What the lists left behind is the consumer's still.
    thread::sleep(Duration::from_secs(1));
    let listed_mib = memory_mib();
    while lags.try_recv().is_ok() {}

    let (began, cpu) = (Instant::now(), cpu_s());
    thread::sleep(Duration::from_secs(size.seconds.into()));
    let (took, used) = (began.elapsed().as_secs_f64(), cpu_s() - cpu);
    let mut lags: Vec<f64> = lags.try_iter().collect();
    assert!(!lags.is_empty(), "no change came");
    lags.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of the list"
        )]
        let index = ((lags.len() - 1) as f64 * share) as usize;
        lags[index]
    };
    Measured {
        listed_s,
        listed_cpu_s,
        listed_mib,
        cpu_percent: used / took * 100.0,
        after_mib: memory_mib(),
        changes_a_second: lags.len() as f64 / took,
        lag_p50_ms: at(0.5),
        lag_p99_ms: at(0.99),
        lag_max_ms: at(1.0),
    }
}

/// What `zdt run` does with its inputs, and how late each change of a slice is.
fn consume(mut from: mpsc::Receiver<Input>, lags: &std::sync::mpsc::Sender<f64>) {
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    while let Some(input) = from.blocking_recv() {
        correlator.step(&input, &mut out);
        out.clear();
        if let What::Slice(slice) = &input.what
            && let Some(written) = slice
                .endpoints
                .iter()
                .find_map(|e| written_at(&e.pod.as_ref()?.1))
        {
            // Nobody asks any more at the end.
            let _ = lags.send(clock::now().ms_since(written));
        }
    }
}
