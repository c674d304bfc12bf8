//! What the running kernel's BTF tells: where fields are, what tracepoints pass, how reset reasons are called.
//! Asked once at start; versions are never compared.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

use btfparse::{
    Error as ParseError, ErrorKind, Integer32Value, Offset, Readable, TypeInformation, TypeVariant,
};
use zdt_common::{ABSENT, OFFSET_SPECS, OffsetSpec, Offsets};
use zerocopy::{FromBytes, IntoBytes};

use super::split_btf;

/// Where the kernel shows its BTF (CONFIG_DEBUG_INFO_BTF).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The enum that names reset reasons, and the prefix of its names (include/net/rstreason.h).
const RESET_REASONS: (&str, &str) = ("sk_rst_reason", "SK_RST_REASON_");

/// The same of reasons to drop a packet (include/net/dropreason-core.h). Two have only the first part of the prefix.
const DROP_REASONS: (&str, &str) = ("skb_drop_reason", "SKB_DROP_REASON_");

/// The enum that names helpers, and the helper that finds a task's registers (5.15 and later).
const TASK_PT_REGS: (&str, &str) = ("bpf_func_id", "BPF_FUNC_task_pt_regs");

/// The struct of an entry of conntrack, and the module that has it.
const CONNTRACK: (&str, &str) = ("nf_conn", "nf_conntrack");

/// CONFIG_HZ of most distributions.
const MOST_KERNELS_HZ: u32 = 250;

/// Names and qualifiers that one type may be behind: a chain without an end is no C type.
const MOST_NAMES: usize = 64;

/// Typedefs of the prototypes of raw tracepoints (include/trace/bpf_probe.h).
const TRACEPOINT_PREFIX: &str = "btf_trace_";

/// Why BTF could not tell.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("no BTF at {path}: the kernel needs CONFIG_DEBUG_INFO_BTF=y")]
    Missing { path: String },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("cannot understand the BTF at {path}: {reason}")]
    Parse { path: String, reason: String },
    #[error("this kernel's BTF has no {}: zdt does not know where to find {name}; please report `uname -r` and this line", paths.join(" or "))]
    MissingField { name: &'static str, paths: Vec<String> },
}

/// An argument of a tracepoint, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    Pointer,
    /// Numbers of any size, enums.
    Number,
}

/// What zdt needs to know about a kernel.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    pub offsets: Offsets,
    /// Names of the offsets that this kernel does not have.
    pub absent: Vec<&'static str>,
    /// `enum sk_rst_reason` by value, without the prefix; empty before 6.10.
    pub reset_reasons: BTreeMap<u32, String>,
    /// `enum skb_drop_reason` by value, without the prefix; empty before 5.17.
    pub drop_reasons: BTreeMap<u32, String>,
    /// Arguments of each tracepoint that [`super::table`] names.
    pub tracepoints: BTreeMap<String, Vec<Arg>>,
    /// The helper `bpf_task_pt_regs` exists.
    pub task_pt_regs: bool,
    /// CONFIG_HZ where it can be found, else that of most distributions.
    pub hz: u32,
}

impl KernelFacts {
    /// Reads the running kernel's.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(VMLINUX))
    }

    /// Reads a BTF file.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let shown = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BtfError::Missing { path: shown.clone() },
            _ => BtfError::Read {
                path: shown.clone(),
                source,
            },
        })?;
        let module = || fs::read(path.with_file_name(CONNTRACK.1)).ok();
        let mut facts = Self::of(&shown, &bytes, module)?;
        facts.hz = config_hz().unwrap_or(facts.hz);
        Ok(facts)
    }

    /// What `btf`, which is shown as that of `path`, and the module's tell.
    pub fn of(path: &str, btf: &[u8], module: impl FnOnce() -> Option<Vec<u8>>) -> Result<Self, BtfError> {
        let parse = |reason| BtfError::Parse {
            path: path.to_owned(),
            reason,
        };
        // Some 150,000 types: walk them once, keep little.
        let walk = |bytes: &[u8]| {
            let types = TypeInformation::new(&Bytes(bytes)).map_err(|e| parse(e.message().to_owned()))?;
            let index = Index::new(&types);
            Ok((types, index))
        };
        let (mut types, mut index) = walk(btf)?;
        // A kernel that does not use the struct itself leaves it to the module, which may not be loaded.
        if index.lacks(CONNTRACK.0)
            && let Some(module) = module()
            && let Some(both) = split_btf::join(btf, &module)
        {
            (types, index) = walk(&both)?;
        }
        let (offsets, absent) = offsets(&types, &index)?;
        let offsets = Offsets::read_from_bytes(offsets.as_bytes())
            .map_err(|_| parse("OFFSET_SPECS and Offsets differ in length".to_owned()))?;
        Ok(Self {
            offsets,
            absent,
            reset_reasons: index.reset_reasons,
            drop_reasons: index.drop_reasons,
            tracepoints: index.tracepoints,
            task_pt_regs: index.task_pt_regs,
            hz: MOST_KERNELS_HZ,
        })
    }

    /// Number of arguments of a tracepoint; None: the kernel has no such tracepoint.
    pub fn arity(&self, tracepoint: &str) -> Option<usize> {
        self.tracepoints.get(tracepoint).map(Vec::len)
    }
}

/// Reads names and arguments of both, and says nothing: for the fuzzer. Not the offsets, since the parser goes round in types
/// that hold themselves, which no compiler writes.
pub fn walk(kernel: &[u8], module: &[u8]) {
    let both = split_btf::join(kernel, module).unwrap_or_default();
    for table in [kernel, &both] {
        if let Ok(types) = TypeInformation::new(&Bytes(table)) {
            Index::new(&types);
        }
    }
}

/// A file that is in memory, for the parser.
struct Bytes<'a>(&'a [u8]);

impl Readable for Bytes<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let found = self.0.get(start..end);
        let found =
            found.ok_or_else(|| ParseError::new(ErrorKind::EOF, "it ends in the middle of a type"))?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

/// The few types that matter.
struct Index {
    /// Kernel structs by name; where BTF has several of one name, the largest: the others are private twins.
    structs: HashMap<&'static str, (usize, u32)>,
    tracepoints: BTreeMap<String, Vec<Arg>>,
    reset_reasons: BTreeMap<u32, String>,
    drop_reasons: BTreeMap<u32, String>,
    task_pt_regs: bool,
}

impl Index {
    fn lacks(&self, of: &str) -> bool {
        self.structs.get(of).is_none_or(|(size, _)| *size == 0)
    }

    fn new(types: &TypeInformation) -> Self {
        let mut index = Self {
            structs: OFFSET_SPECS.iter().map(|spec| (spec.of, (0, 0))).collect(),
            tracepoints: BTreeMap::new(),
            reset_reasons: BTreeMap::new(),
            drop_reasons: BTreeMap::new(),
            task_pt_regs: false,
        };
        for (&id, variant) in types.get() {
            match variant {
                TypeVariant::Struct(s) => {
                    let Some(name) = s.name().as_deref() else { continue };
                    if let Some(best) = index.structs.get_mut(name)
                        && *s.size() > best.0
                    {
                        *best = (*s.size(), id);
                    }
                }
                TypeVariant::Typedef(t) => {
                    let tracepoint = t
                        .name()
                        .as_deref()
                        .and_then(|n| n.strip_prefix(TRACEPOINT_PREFIX));
                    let Some(tracepoint) = tracepoint else { continue };
                    if super::table::PROGRAMS.iter().any(|p| p.tracepoint == tracepoint)
                        && let Some(args) = prototype(types, *t.tid())
                    {
                        index.tracepoints.insert(tracepoint.to_owned(), args);
                    }
                }
                TypeVariant::Enum(e) if e.name().as_deref() == Some(RESET_REASONS.0) => {
                    index.reset_reasons = names(e, RESET_REASONS.1);
                }
                TypeVariant::Enum(e) if e.name().as_deref() == Some(DROP_REASONS.0) => {
                    index.drop_reasons = names(e, DROP_REASONS.1);
                }
                TypeVariant::Enum(e) if e.name().as_deref() == Some(TASK_PT_REGS.0) => {
                    let mut helpers = e.named_value_list().iter();
                    index.task_pt_regs = helpers.any(|helper| helper.name == TASK_PT_REGS.1);
                }
                _ => {}
            }
        }
        index
    }
}

/// The names of an enum by value, without the prefix or as much of it as they have.
fn names(e: &btfparse::Enum, prefix: &str) -> BTreeMap<u32, String> {
    let first_part = prefix.split_inclusive('_').next().unwrap_or_default();
    let values = e.named_value_list().iter().map(|value| {
        let number = match value.value {
            Integer32Value::Signed(n) => n.cast_unsigned(),
            Integer32Value::Unsigned(n) => n,
        };
        let name = value.name.strip_prefix(prefix);
        let name = name.or_else(|| value.name.strip_prefix(first_part));
        (number, name.unwrap_or(&value.name).to_owned())
    });
    values.collect()
}

/// The arguments of the function that `pointer` points to, without the first (`void *__data`).
fn prototype(types: &TypeInformation, pointer: u32) -> Option<Vec<Arg>> {
    let Some(TypeVariant::Ptr(pointer)) = types.get().get(&pointer) else {
        return None;
    };
    let Some(TypeVariant::FuncProto(function)) = types.get().get(pointer.tid()) else {
        return None;
    };
    Some(
        function
            .parameter_list()
            .iter()
            .skip(1)
            .map(|p| arg(types, p.tid()))
            .collect(),
    )
}

fn arg(types: &TypeInformation, mut id: u32) -> Arg {
    for _ in 0..MOST_NAMES {
        id = match types.get().get(&id) {
            Some(TypeVariant::Ptr(_)) => return Arg::Pointer,
            Some(TypeVariant::Const(t)) => *t.tid(),
            Some(TypeVariant::Volatile(t)) => *t.tid(),
            Some(TypeVariant::Restrict(t)) => *t.tid(),
            Some(TypeVariant::Typedef(t)) => *t.tid(),
            Some(TypeVariant::TypeTag(t)) => *t.tid(),
            _ => return Arg::Number,
        }
    }
    Arg::Number
}

fn offsets(types: &TypeInformation, index: &Index) -> Result<(Vec<u16>, Vec<&'static str>), BtfError> {
    let mut found = Vec::with_capacity(OFFSET_SPECS.len());
    let mut absent = Vec::new();
    for spec in OFFSET_SPECS {
        if let Some(offset) = offset(types, index, spec) {
            found.push(offset);
        } else if spec.required {
            let paths = spec
                .paths
                .iter()
                .map(|path| format!("struct {}.{path}", spec.of))
                .collect();
            return Err(BtfError::MissingField {
                name: spec.name,
                paths,
            });
        } else {
            found.push(ABSENT);
            absent.push(spec.name);
        }
    }
    Ok((found, absent))
}

fn offset(types: &TypeInformation, index: &Index, spec: &OffsetSpec) -> Option<u16> {
    let (_, id) = *index.structs.get(spec.of)?;
    spec.paths
        .iter()
        .find_map(|path| match types.offset_of(id, path).ok()?.1 {
            Offset::ByteOffset(bytes) => u16::try_from(bytes).ok(),
            // A bit field that begins a byte; who reads it knows its size.
            Offset::BitOffsetAndSize(bits, _) if bits % 8 == 0 => u16::try_from(bits / 8).ok(),
            Offset::BitOffsetAndSize(..) => None,
        })
}

/// CONFIG_HZ from the distribution's kernel configuration, if it is there to read.
fn config_hz() -> Option<u32> {
    let release = nix::sys::utsname::uname().ok()?;
    let path = format!("/boot/config-{}", release.release().to_str()?);
    let config = fs::read_to_string(path).ok()?;
    config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_HZ=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::super::table::{PROGRAMS, Place};
    use super::*;

    /// These run against the machine's own kernel; one without BTF fails them, as it should.
    fn facts() -> KernelFacts {
        KernelFacts::of_running_kernel().unwrap()
    }

    #[test]
    fn offsets_of_the_running_kernel_are_plausible() {
        let facts = facts();
        let o = facts.offsets;
        // uapi-stable order inside sock_common since 2.6: daddr, rcv_saddr, hash, dport, num, family.
        assert_eq!(o.sk_rcv_saddr, o.sk_daddr + 4);
        assert_eq!(o.sk_num, o.sk_dport + 2);
        assert!(o.sk_family > o.sk_num && o.sk_state > o.sk_family);
        assert_eq!(o.task_tgid, o.task_pid + 4);
        assert!(
            o.tp_rcv_nxt > o.icsk_lrcvtime,
            "tcp_sock follows inet_connection_sock"
        );
        assert_eq!(facts.absent, Vec::<&str>::new());
    }

    #[test]
    fn prototypes_of_the_running_kernel_have_what_the_programs_rely_on() {
        let facts = facts();
        for program in PROGRAMS.iter().filter(|p| p.place() == Place::Tracepoint) {
            let arity = facts.arity(program.tracepoint);
            assert!(
                arity >= Some(program.min_args),
                "{}: {arity:?}",
                program.tracepoint
            );
        }
        assert_eq!(
            facts.tracepoints["inet_sock_set_state"],
            [Arg::Pointer, Arg::Number, Arg::Number]
        );
    }

    #[test]
    fn reset_reasons_are_named_where_the_tracepoint_passes_one() {
        let facts = facts();
        if facts.arity("tcp_send_reset") >= Some(3) {
            let names: Vec<_> = facts.reset_reasons.values().map(String::as_str).collect();
            assert!(
                names.contains(&"NO_SOCKET") && names.contains(&"TCP_ABORT_ON_CLOSE"),
                "{names:?}"
            );
        } else {
            assert!(facts.reset_reasons.is_empty());
        }
    }

    #[test]
    fn no_btf_says_which_kernel_option_is_missing() {
        let error = KernelFacts::read(Path::new("/nonexistent/btf")).unwrap_err();
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF=y"), "{error}");
    }

    #[test]
    fn garbage_is_an_error() {
        let error = KernelFacts::read(Path::new("/etc/passwd")).unwrap_err();
        assert!(matches!(error, BtfError::Parse { .. }), "{error}");
    }
}
