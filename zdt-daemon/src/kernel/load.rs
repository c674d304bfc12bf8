//! Loads the object and attaches its programs, each on its own: [`Loaded`] becomes [`Attached`]. Nothing is pinned,
//! so the end of the process is the end of every program (invariant I11).

use std::{collections::BTreeSet, io, os::unix::fs::MetadataExt, path::PathBuf};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::{PerCpuArray, RingBuf},
    programs::{Iter, ProgramError},
};
use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use zdt_common::Hook;
use zerocopy::IntoBytes;

use super::{
    EventRing, Losses,
    attached::{self, Armed, Attached, AttachedHook, Maps, MissingHook},
    btf::{Arg, BtfError, KernelFacts, VMLINUX},
    drops,
    map::{Map, Ports},
    refusal,
    table::{Class, PROGRAMS, Place, Program},
};
use crate::memory;

/// The object as `build.rs` embedded it; empty where there was none.
static OBJECT: &[u8] = include!(concat!(env!("OUT_DIR"), "/ebpf_object.rs"));

/// Length and SHA-256 of what is loaded into the kernel. None: this zdt was built without it.
pub fn object() -> Option<(usize, [u8; 32])> {
    (!OBJECT.is_empty()).then(|| (OBJECT.len(), Sha256::digest(OBJECT).into()))
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "this zdt was built without its eBPF object: run `cargo xtask build`, which makes the object and embeds it"
    )]
    NoObject,
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("the kernel refuses eBPF ({reason}): run zdt as root, or give it {missing}")]
    NotPermitted { reason: String, missing: String },
    #[error(
        "the kernel refuses eBPF ({reason}), and zdt has the capabilities for it. Before Linux 5.11 maps count against the limit of \
         locked memory, which is {limit_kib} KiB here: give zdt CAP_SYS_RESOURCE to raise it (deploy/components/before-5.11), or a \
         container without that limit. Later kernels do not look at it: there a seccomp profile or a security module refuses bpf(2)"
    )]
    LockedMemory { reason: String, limit_kib: u64 },
    #[error(
        "the kernel refuses eBPF ({0}), and zdt has the capabilities for it: a seccomp profile or a security module refuses bpf(2)"
    )]
    Withheld(String),
    #[error("cannot load the eBPF object: {0}")]
    Object(String),
    #[error("zdt cannot work without the tracepoint {tracepoint} (kernel {since} and later): {reason}")]
    Required {
        tracepoint: &'static str,
        since: &'static str,
        reason: String,
    },
    #[error(
        "the eBPF object has no usable map {name} ({reason}): it was built from other sources, run `cargo xtask build`"
    )]
    Map { name: &'static str, reason: String },
}

/// What may be chosen at load.
#[derive(Clone, Debug)]
pub struct Options {
    /// The running kernel's type information.
    pub btf: PathBuf,
    /// Size of the ring buffer in bytes; the kernel wants a power of two, at least one page.
    pub ring_bytes: u32,
    /// Signals to report.
    pub signals: Vec<i32>,
    /// The network namespace (inode number) whose tables and packets are reported; 0: all.
    pub netns: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            btf: PathBuf::from(VMLINUX),
            ring_bytes: 1 << 20,
            signals: vec![
                libc::SIGTERM,
                libc::SIGKILL,
                libc::SIGQUIT,
                libc::SIGINT,
                libc::SIGABRT,
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGILL,
                libc::SIGFPE,
                libc::SIGSYS,
                // What proxies are told to reload with. Not SIGUSR1: some servers signal themselves with it all the time.
                libc::SIGHUP,
                libc::SIGUSR2,
            ],
            netns: own_netns(),
        }
    }
}

/// The object is in the kernel: its maps exist, its programs do not run yet.
pub struct Loaded {
    ebpf: Ebpf,
    btf: Btf,
    facts: KernelFacts,
}

impl Loaded {
    /// Asks BTF, sets the globals and loads the object.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        let facts = KernelFacts::read(&options.btf)?;
        let btf =
            Btf::parse_file(&options.btf, Endianness::default()).map_err(|e| LoadError::Object(chain(&e)))?;
        // Before 5.11 maps count against RLIMIT_MEMLOCK; later kernels do not look at it, so a refusal may be harmless.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);

        let has_arg = |tracepoint: &str, n: usize| u32::from(facts.arity(tracepoint) > Some(n));
        let victim = facts.tracepoints.get("mark_victim").and_then(|args| args.first());
        let signals = options
            .signals
            .iter()
            .fold(0u64, |mask, sig| mask | 1 << sig.rem_euclid(64));
        // System calls of this architecture have numbers far below 2^31.
        let setsockopt = i32::try_from(libc::SYS_setsockopt).unwrap_or(-1);
        let quiet = drops::quiet(&facts.drop_reasons);
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .map_max_entries("EVENTS", options.ring_bytes)
            .override_global("OFFSETS", facts.offsets.as_bytes(), true)
            .override_global("SIGNAL_MASK", &signals, true)
            .override_global("RESET_REASON_ARG", &has_arg("tcp_send_reset", 2), true)
            .override_global("RETRANSMIT_ERR_ARG", &has_arg("tcp_retransmit_skb", 2), true)
            .override_global("NODE_NETNS", &options.netns, true)
            .override_global("TASK_PT_REGS", &u32::from(facts.task_pt_regs), true)
            .override_global("SETSOCKOPT_NR", &setsockopt, true)
            .override_global("DROP_REASON_ARG", &has_arg("kfree_skb", 2), true)
            .override_global("QUIET_REASONS_0", &quiet[0], true)
            .override_global("QUIET_REASONS_1", &quiet[1], true)
            .override_global("QUIET_REASONS_2", &quiet[2], true)
            .override_global("QUIET_REASONS_3", &quiet[3], true)
            .override_global("VICTIM_IS_TASK", &u32::from(victim == Some(&Arg::Pointer)), true)
            .load(OBJECT)
            .map_err(|e| {
                let reason = chain(&e);
                if refused(&e) {
                    refusal::why(reason)
                } else {
                    LoadError::Object(reason)
                }
            })?;
        Ok(Self { ebpf, btf, facts })
    }

    /// Attaches every program that can be (the armed ones for a moment, as a proof); one that cannot is named with its reason, and is an error only when
    /// nothing works without it.
    pub fn attach(mut self) -> Result<Attached, LoadError> {
        let mut running = Vec::new();
        let mut missing = Vec::new();
        let mut spared = Vec::new();
        for program in PROGRAMS {
            if let Place::Function { unless, arguments } = program.place()
                && self.facts.arity(unless) >= Some(arguments)
            {
                spared.push(program);
                continue;
            }
            let alone = program.place() == Place::CgroupEgress
                && missing
                    .iter()
                    .any(|m: &MissingHook| m.program.place() == Place::CgroupIngress);
            let attached = if alone {
                Err(
                    "without cgroup_skb_ingress the answer to a HEAD request looks like one that was cut"
                        .to_owned(),
                )
            } else {
                self.attach_one(program)
            };
            match attached {
                Ok(()) => running.push(AttachedHook { program }),
                Err(reason) if program.required => {
                    let missing = refusal::lacks_for_tracing();
                    if !missing.is_empty() {
                        return Err(LoadError::NotPermitted { reason, missing });
                    }
                    return Err(LoadError::Required {
                        tracepoint: program.tracepoint,
                        since: program.since,
                        reason,
                    });
                }
                Err(reason) => missing.push(MissingHook { program, reason }),
            }
        }
        if let Err(reason) = self.find_listeners() {
            tracing::warn!(
                "listeners that were open before zdt are not known: {reason}; their queues are not looked at"
            );
        }
        let Self { mut ebpf, btf, facts } = self;
        drop(btf);
        // They took 50 MiB while they were read.
        memory::give_back();
        let maps = Maps {
            addrs: Map::take(&mut ebpf, "ADDRS")?,
            endpoints: Map::take(&mut ebpf, "ENDPOINTS")?,
            ports: Ports::take(&mut ebpf)?,
            services: Map::take(&mut ebpf, "SERVICES")?,
            transit: Map::take(&mut ebpf, "TRANSIT")?,
        };
        let mut take = |name| {
            ebpf.take_map(name).ok_or_else(|| LoadError::Map {
                name,
                reason: "it is not there".to_owned(),
            })
        };
        let (events, lost, emitted) = (take("EVENTS")?, take("LOST")?, take("EMITTED")?);
        let bad = |name| {
            move |e: aya::maps::MapError| LoadError::Map {
                name,
                reason: chain(&e),
            }
        };
        let armed = running.iter().map(|hook| hook.program);
        let armed = armed.filter(|program| program.class == Class::Armed);
        let (moving, still) = watch::channel(false);
        Ok(Attached {
            maps,
            armed: armed.map(|program| Armed { program, link: None }).collect(),
            transit: BTreeSet::new(),
            beside: BTreeSet::new(),
            moving,
            ring: Some(EventRing::new(
                RingBuf::try_from(events).map_err(bad("EVENTS"))?,
                still,
            )),
            losses: Some(Losses::new(
                PerCpuArray::try_from(lost).map_err(bad("LOST"))?,
                PerCpuArray::try_from(emitted).map_err(bad("EMITTED"))?,
            )),
            ebpf,
            facts,
            running,
            missing,
            spared,
        })
    }

    /// Runs the program that finds the pods' listeners, after the one that sees them open and close.
    fn find_listeners(&mut self) -> Result<(), String> {
        let program = self.ebpf.program_mut("task_file");
        let program = program.ok_or_else(|| "the eBPF object has no such program".to_owned())?;
        let program: &mut Iter = program.try_into().map_err(|e: ProgramError| chain(&e))?;
        let loading = program.load("task_file", &self.btf);
        loading.map_err(|e| shortened(&chain(&e)))?;
        let link = program.attach().and_then(|id| program.take_link(id));
        let mut walk = link.map_err(|e| chain(&e))?.into_file().map_err(|e| chain(&e))?;
        // It writes nothing: reading runs it.
        io::copy(&mut walk, &mut io::sink())
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn attach_one(&mut self, program: &'static Program) -> Result<(), String> {
        if program.place() == Place::Tracepoint {
            self.fits(program)?;
        }
        attached::load(&mut self.ebpf, program, &self.btf).map_err(|e| shortened(&e))?;
        let link = attached::attach(&mut self.ebpf, program)?;
        if program.class == Class::Armed {
            // It was attached to see that it can be.
            attached::detach(&mut self.ebpf, program, link)?;
        }
        Ok(())
    }

    /// Whether the running kernel has the tracepoint, with what the program relies on.
    fn fits(&self, program: &'static Program) -> Result<(), String> {
        let arity = self.facts.arity(program.tracepoint).ok_or_else(|| {
            format!(
                "this kernel has no such tracepoint, it came with {}",
                program.since
            )
        })?;
        if arity < program.min_args {
            return Err(format!(
                "this kernel's tracepoint passes {arity} arguments, zdt relies on {}",
                program.min_args
            ));
        }
        if program.hooks.contains(&Hook::XtReplace) && one_possible_cpu() {
            return Err(
                "this machine can have one CPU only: legacy iptables frees no per-CPU memory there, \
                 so its replacements cannot be seen"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// With one CPU x_tables keeps its counters in the rules (net/netfilter/x_tables.c xt_percpu_counter_alloc).
fn one_possible_cpu() -> bool {
    std::fs::read_to_string("/sys/devices/system/cpu/possible").is_ok_and(|cpus| cpus.trim() == "0")
}

/// The network namespace of the calling thread; 0 where /proc does not tell.
fn own_netns() -> u32 {
    let inode = std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    u32::try_from(inode).unwrap_or(0)
}

/// An error with its sources, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// A refusal by the verifier without the thousands of lines that led to it: what was refused stands near the end.
fn shortened(text: &str) -> String {
    const LAST: usize = 5;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match (lines.first(), lines.len().checked_sub(LAST)) {
        (Some(first), Some(from @ 1..)) => {
            let last = lines.get(from..).unwrap_or_default().join(" | ");
            format!("{first} … {last}")
        }
        _ => lines.join(" | "),
    }
}

/// Somewhere below is a refusal by the kernel.
fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn refusal_by_the_verifier_keeps_its_beginning_and_its_end() {
        let log: Vec<String> = (0..9_000).map(|n| format!("{n}: (bf) r6 = r1")).collect();
        let text = format!(
            "Permission denied\n{}\ninvalid read from stack\n\n",
            log.join("\n")
        );
        let short = shortened(&text);
        assert!(short.starts_with("Permission denied … 8996: "), "{short}");
        assert!(short.ends_with("| invalid read from stack"), "{short}");
        assert_eq!(shortened("one\ntwo"), "one | two");
    }
}
