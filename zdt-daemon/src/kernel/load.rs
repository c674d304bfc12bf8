//! Loads the object and attaches its programs, each on its own: [`Loaded`] becomes [`Attached`]. Nothing is pinned,
//! so the end of the process is the end of every program (invariant I11).

use std::{io, os::fd::AsFd as _, os::unix::fs::MetadataExt, path::PathBuf};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::BtfTracePoint,
};
use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use zdt_common::{Addr, Endpoint, Hook, Service};
use zerocopy::IntoBytes;

use super::{
    Costs, EventRing, Losses, Translator,
    btf::{Arg, BtfError, KernelFacts, VMLINUX},
    drops,
    table::{PROGRAMS, Program},
};

/// The object as `build.rs` embedded it; empty where there was none.
static OBJECT: &[u8] = include!(concat!(env!("OUT_DIR"), "/ebpf_object.rs"));

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "this zdt was built without its eBPF object: run `cargo xtask build`, which makes the object and embeds it"
    )]
    NoObject,
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(
        "the kernel refuses eBPF ({0}): run zdt as root, or give it CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    )]
    NotPermitted(String),
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

/// A change of a map that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot change the map {map} of addresses: {reason}; it holds 262144 entries")]
pub struct MapError {
    map: &'static str,
    reason: String,
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
    /// The network namespace (inode number) whose tables are reported; 0: all.
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

/// A program that runs.
#[derive(Clone, Copy, Debug)]
pub struct AttachedHook {
    pub program: &'static Program,
}

/// A program that does not run, and why.
#[derive(Clone, Debug)]
pub struct MissingHook {
    pub program: &'static Program,
    pub reason: String,
}

/// Programs run until this is dropped.
pub struct Attached {
    /// Holds the links.
    ebpf: Ebpf,
    addrs: HashMap<MapData, [u8; size_of::<Addr>()], u32>,
    endpoints: HashMap<MapData, [u8; size_of::<Endpoint>()], u32>,
    services: HashMap<MapData, [u8; size_of::<Service>()], u32>,
    ring: Option<EventRing>,
    losses: Option<Losses>,
    facts: KernelFacts,
    running: Vec<AttachedHook>,
    missing: Vec<MissingHook>,
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
                    LoadError::NotPermitted(reason)
                } else {
                    LoadError::Object(reason)
                }
            })?;
        Ok(Self { ebpf, btf, facts })
    }

    /// Attaches every program that can be; one that cannot is named with its reason, and is an error only when
    /// nothing works without it.
    pub fn attach(mut self) -> Result<Attached, LoadError> {
        let mut running = Vec::new();
        let mut missing = Vec::new();
        for program in PROGRAMS {
            match self.attach_one(program) {
                Ok(()) => running.push(AttachedHook { program }),
                Err(reason) if program.required => {
                    return Err(LoadError::Required {
                        tracepoint: program.tracepoint,
                        since: program.since,
                        reason,
                    });
                }
                Err(reason) => missing.push(MissingHook { program, reason }),
            }
        }
        let Self { mut ebpf, facts, .. } = self;
        let mut take = |name| {
            ebpf.take_map(name).ok_or_else(|| LoadError::Map {
                name,
                reason: "it is not there".to_owned(),
            })
        };
        let (events, addrs, endpoints) = (take("EVENTS")?, take("ADDRS")?, take("ENDPOINTS")?);
        let services = take("SERVICES")?;
        let (lost, emitted) = (take("LOST")?, take("EMITTED")?);
        let bad = |name| {
            move |e: aya::maps::MapError| LoadError::Map {
                name,
                reason: chain(&e),
            }
        };
        Ok(Attached {
            addrs: HashMap::try_from(addrs).map_err(bad("ADDRS"))?,
            endpoints: HashMap::try_from(endpoints).map_err(bad("ENDPOINTS"))?,
            services: HashMap::try_from(services).map_err(bad("SERVICES"))?,
            ring: Some(EventRing::new(RingBuf::try_from(events).map_err(bad("EVENTS"))?)),
            losses: Some(Losses::new(
                PerCpuArray::try_from(lost).map_err(bad("LOST"))?,
                PerCpuArray::try_from(emitted).map_err(bad("EMITTED"))?,
            )),
            ebpf,
            facts,
            running,
            missing,
        })
    }

    fn attach_one(&mut self, program: &'static Program) -> Result<(), String> {
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
        let loaded = self
            .ebpf
            .program_mut(program.name)
            .ok_or_else(|| "the eBPF object has no such program, run `cargo xtask build`".to_owned())?;
        let loaded: &mut BtfTracePoint = loaded.try_into().map_err(|e| chain(&e))?;
        loaded
            .load(program.tracepoint, &self.btf)
            .map_err(|e| chain(&e))?;
        loaded.attach().map_err(|e| chain(&e))?;
        Ok(())
    }
}

impl Attached {
    /// Says what an address is: `ADDR_*` bits of zdt_common.
    pub fn watch_addr(&mut self, addr: Addr, bits: u32) -> Result<(), MapError> {
        self.addrs.insert(addr.0, bits, 0).map_err(|e| MapError {
            map: "ADDRS",
            reason: chain(&e),
        })
    }

    /// Forgets an address; one that is not there is no error.
    pub fn unwatch_addr(&mut self, addr: Addr) -> Result<(), MapError> {
        absent_is_fine(self.addrs.remove(&addr.0), "ADDRS")
    }

    /// Says that an address and port serve.
    pub fn watch_endpoint(&mut self, endpoint: Endpoint) -> Result<(), MapError> {
        let key: [u8; size_of::<Endpoint>()] = zerocopy::transmute!(endpoint);
        self.endpoints.insert(key, 1, 0).map_err(|e| MapError {
            map: "ENDPOINTS",
            reason: chain(&e),
        })
    }

    /// Forgets an endpoint; one that is not there is no error.
    pub fn unwatch_endpoint(&mut self, endpoint: Endpoint) -> Result<(), MapError> {
        let key: [u8; size_of::<Endpoint>()] = zerocopy::transmute!(endpoint);
        absent_is_fine(self.endpoints.remove(&key), "ENDPOINTS")
    }

    /// Says that a service is at an address and port, or, at the address of zeroes, at a port of the node.
    pub fn watch_service(&mut self, service: Service) -> Result<(), MapError> {
        let key: [u8; size_of::<Service>()] = zerocopy::transmute!(service);
        self.services.insert(key, 1, 0).map_err(|e| MapError {
            map: "SERVICES",
            reason: chain(&e),
        })
    }

    /// Forgets a service; one that is not there is no error.
    pub fn unwatch_service(&mut self, service: Service) -> Result<(), MapError> {
        let key: [u8; size_of::<Service>()] = zerocopy::transmute!(service);
        absent_is_fine(self.services.remove(&key), "SERVICES")
    }

    /// The reader of events; there is one, so only the first call gets it.
    pub fn take_ring(&mut self) -> Option<EventRing> {
        self.ring.take()
    }

    /// The reader of the loss counters; only the first call gets it.
    pub fn take_losses(&mut self) -> Option<Losses> {
        self.losses.take()
    }

    /// The reader of what each program costs.
    pub fn costs(&self) -> Costs {
        let fds = self.running.iter().filter_map(|a| {
            let fd = self.ebpf.program(a.program.name)?.fd().ok()?;
            Some((a.program.name, fd.as_fd().try_clone_to_owned().ok()?))
        });
        Costs::new(fds.collect())
    }

    /// Makes observations of this kernel's events.
    pub fn translator(&self) -> Translator {
        Translator::new(self.facts.reset_reasons.clone(), self.facts.drop_reasons.clone())
    }

    /// What BTF told.
    pub fn facts(&self) -> &KernelFacts {
        &self.facts
    }

    /// Programs that run.
    pub fn attached(&self) -> &[AttachedHook] {
        &self.running
    }

    /// Programs that do not, and why.
    pub fn missing(&self) -> &[MissingHook] {
        &self.missing
    }

    /// Names of the hooks that report, for [`crate::input::Start`].
    pub fn hook_names(&self) -> Vec<String> {
        let hooks = self.running.iter().flat_map(|a| a.program.hooks);
        hooks.copied().map(Hook::name).map(str::to_owned).collect()
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

fn absent_is_fine(removed: Result<(), aya::maps::MapError>, map: &'static str) -> Result<(), MapError> {
    match removed {
        Err(aya::maps::MapError::KeyNotFound | aya::maps::MapError::ElementNotFound) | Ok(()) => Ok(()),
        Err(aya::maps::MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(())
        }
        Err(e) => Err(MapError {
            map,
            reason: chain(&e),
        }),
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
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
