//! A network namespace of its own with kube-proxy's rules in legacy iptables, and the kernel half that watches it.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        resource::{UsageWho, getrusage},
        time::{TimeVal, TimeValLike as _},
    },
};
use tokio::{runtime::Runtime, sync::mpsc};
use zdt_daemon::{
    clock,
    input::{Input, Ktime, Observation, What},
    kernel::{Attached, EventRing, Loaded, Options, Translator},
    netfilter::iptables::Family,
};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Longer than any replacement takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a family's rules are written.
pub trait Writes {
    fn number(self) -> u8;
    fn restorer(self) -> &'static str;
    fn flusher(self) -> &'static str;
    /// The address of endpoint `e` of service `s`, as rules write it, with its port.
    fn endpoint(self, s: usize, e: usize) -> String;
    fn vip(self, s: usize) -> String;
}

impl Writes for Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    fn restorer(self) -> &'static str {
        match self {
            Self::V4 => "iptables-legacy-restore",
            Self::V6 => "ip6tables-legacy-restore",
        }
    }

    fn flusher(self) -> &'static str {
        match self {
            Self::V4 => "iptables-legacy",
            Self::V6 => "ip6tables-legacy",
        }
    }

    fn endpoint(self, s: usize, e: usize) -> String {
        let (hi, lo) = (s / 250, s % 250 + 1);
        match self {
            Self::V4 => format!("10.{}.{hi}.{lo}:8080", 100 + e),
            Self::V6 => format!("[fd00:{e}::{hi:x}:{lo:x}]:8080"),
        }
    }

    fn vip(self, s: usize) -> String {
        let (hi, lo) = (s / 250, s % 250 + 1);
        match self {
            Self::V4 => format!("10.96.{hi}.{lo}/32"),
            Self::V6 => format!("fd96::{hi:x}:{lo:x}/128"),
        }
    }
}

/// A network namespace; removed at the end.
pub struct World {
    name: String,
}

impl World {
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load eBPF programs and write iptables rules: run them as root"
        );
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("zdt-xt-{}-{n}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { name }
    }

    fn path(&self) -> PathBuf {
        Path::new("/var/run/netns").join(&self.name)
    }

    pub fn inum(&self) -> u32 {
        u32::try_from(std::fs::metadata(self.path()).unwrap().ino()).unwrap()
    }

    /// Takes the calling thread into the namespace. Each test runs on a thread of its own.
    pub fn enter(&self) {
        let netns = File::open(self.path()).unwrap();
        setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// A command inside the namespace.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(args);
        command
    }

    /// Replaces tables as kube-proxy does.
    pub fn restore(&self, family: Family, rules: &str) -> Cost {
        // bash measures its child alone; other tests have children too.
        let script = format!(
            "TIMEFORMAT='%R %U %S'; time {} --noflush --counters",
            family.restorer()
        );
        let mut child = self
            .command("bash", &["-c", &script])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let times: Vec<f64> = said
            .lines()
            .last()
            .unwrap()
            .split(' ')
            .map(|s| s.parse().unwrap())
            .collect();
        let [elapsed, user, system]: [f64; 3] = times.try_into().unwrap();
        Cost {
            elapsed_ms: elapsed * 1e3,
            cpu_ms: (user + system) * 1e3,
        }
    }
}

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub elapsed_ms: f64,
    pub cpu_ms: f64,
}

impl Cost {
    /// Of `f` on this thread.
    pub fn of<T>(f: impl FnOnce() -> T) -> (Self, T) {
        let (start, cpu) = (clock::now(), thread_cpu_ms());
        let value = f();
        let cost = Self {
            elapsed_ms: clock::now().ms_since(start),
            cpu_ms: thread_cpu_ms() - cpu,
        };
        (cost, value)
    }
}

fn thread_cpu_ms() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let ms = |time: TimeVal| time.num_microseconds() as f64 / 1e3;
    ms(usage.user_time()) + ms(usage.system_time())
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// The kernel half, restricted to one namespace.
pub struct Eyes {
    attached: Attached,
    ring: EventRing,
    translator: Translator,
    runtime: Runtime,
    queue: Vec<Input>,
}

/// For `cargo xtask kernels`, which asks whether each hook has fired.
impl Drop for Eyes {
    fn drop(&mut self) {
        let Some(losses) = self.attached.take_losses() else {
            return;
        };
        for (hook, count) in losses.emitted().unwrap_or_default() {
            if count > 0 {
                println!("fired {} {count}", hook.name());
            }
        }
    }
}

impl Eyes {
    pub fn open(world: &World) -> Self {
        let options = Options {
            netns: world.inum(),
            ..Options::default()
        };
        let mut attached = Loaded::load(&options).unwrap().attach().unwrap();
        let missing = attached.missing();
        assert!(
            missing.iter().all(|m| m.program.name != "percpu_free_percpu"),
            "{missing:?}"
        );
        Self {
            ring: attached.take_ring().unwrap(),
            translator: attached.translator(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            queue: Vec::new(),
            attached,
        }
    }

    /// The next replacement in this namespace: when, family, table, by whom.
    pub fn replaced(&mut self) -> Input {
        loop {
            let input = if self.queue.is_empty() {
                self.wait()
            } else {
                self.queue.remove(0)
            };
            if is_replacement(&input) {
                return input;
            }
        }
    }

    /// Replacements that are in the ring now.
    pub fn drain(&mut self) -> Vec<Input> {
        let Self {
            ring,
            translator,
            queue,
            ..
        } = self;
        ring.drain(|event| queue.push(translator.input(&event.unwrap())));
        let mut all = std::mem::take(queue);
        all.retain(is_replacement);
        all
    }

    fn wait(&mut self) -> Input {
        let Self {
            ring,
            translator,
            runtime,
            queue,
            ..
        } = self;
        let (sender, mut receiver) = mpsc::channel(65_536);
        let first = runtime.block_on(async {
            tokio::select! {
                end = ring.run(|event| sender.try_send(translator.input(&event.unwrap())).map(|()| true).unwrap()) => {
                    panic!("the ring reader ended: {end:?}")
                }
                first = tokio::time::timeout(PATIENCE, receiver.recv()) => first,
            }
        });
        while let Ok(more) = receiver.try_recv() {
            queue.push(more);
        }
        first.expect("no event came in time").unwrap()
    }
}

fn is_replacement(input: &Input) -> bool {
    matches!(input.what, What::Kernel(Observation::TableReplaced { .. }))
}

/// When, table, family and by whom.
pub fn seen(input: &Input) -> (Ktime, String, u8, String, u32) {
    let What::Kernel(Observation::TableReplaced {
        netns,
        family,
        table,
        by,
        ..
    }) = &input.what
    else {
        panic!("{input:?}")
    };
    (input.at, table.clone(), *family, by.clone(), netns.0)
}

/// What kube-proxy writes into `nat` for `services` services with `endpoints` endpoints each: TCP port 80, and a
/// NodePort each. Without comments, as in its large cluster mode (pkg/proxy/iptables/proxier.go, 1000 endpoints).
pub fn kube_proxy(family: Family, services: usize, endpoints: usize) -> String {
    let mut chains =
        String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n");
    let mut rules = String::from(
        "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n",
    );
    for s in 0..services {
        let vip = family.vip(s);
        writeln!(chains, ":KUBE-SVC-{s:016} - [0:0]\n:KUBE-EXT-{s:016} - [0:0]").unwrap();
        writeln!(
            rules,
            "-A KUBE-SERVICES -d {vip} -p tcp -m tcp --dport 80 -j KUBE-SVC-{s:016}"
        )
        .unwrap();
        if s < 2000 {
            let port = 30_000 + s;
            writeln!(
                rules,
                "-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j KUBE-EXT-{s:016}"
            )
            .unwrap();
        }
        writeln!(
            rules,
            "-A KUBE-EXT-{s:016} -j KUBE-MARK-MASQ\n-A KUBE-EXT-{s:016} -j KUBE-SVC-{s:016}"
        )
        .unwrap();
        for e in 0..endpoints {
            endpoint(family, &mut chains, &mut rules, s, e, endpoints - e);
        }
    }
    rules.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n");
    chains + &rules
}

fn endpoint(family: Family, chains: &mut String, rules: &mut String, s: usize, e: usize, left: usize) {
    let to = family.endpoint(s, e);
    let address = to.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
    writeln!(chains, ":KUBE-SEP-{s:08}{e:08} - [0:0]").unwrap();
    let random = if left > 1 {
        format!(
            "-m statistic --mode random --probability {:.10} ",
            1.0 / left as f64
        )
    } else {
        String::new()
    };
    writeln!(rules, "-A KUBE-SVC-{s:016} {random}-j KUBE-SEP-{s:08}{e:08}").unwrap();
    writeln!(rules, "-A KUBE-SEP-{s:08}{e:08} -s {address} -j KUBE-MARK-MASQ").unwrap();
    writeln!(
        rules,
        "-A KUBE-SEP-{s:08}{e:08} -p tcp -m tcp -j DNAT --to-destination {to}"
    )
    .unwrap();
}

/// What kube-proxy writes when service `s` keeps only its first `left` endpoints of `of`.
pub fn shrink(family: Family, s: usize, left: usize, of: usize) -> String {
    let mut chains = format!("*nat\n:KUBE-SVC-{s:016} - [0:0]\n");
    let mut rules = String::new();
    for e in 0..left {
        endpoint(family, &mut chains, &mut rules, s, e, left - e);
    }
    // A declared chain is flushed; one that is not wanted any more is deleted after it.
    for e in left..of {
        writeln!(chains, ":KUBE-SEP-{s:08}{e:08} - [0:0]").unwrap();
        writeln!(rules, "-X KUBE-SEP-{s:08}{e:08}").unwrap();
    }
    chains + &rules + "COMMIT\n"
}

/// What kube-proxy writes when service `s` has all `of` endpoints again.
pub fn grow(family: Family, s: usize, of: usize) -> String {
    shrink(family, s, of, of)
}
