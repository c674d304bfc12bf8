//! Type information of a kernel without a boot, cut down to what zdt asks of it: `tests/fixtures/btf`.
//!
//! Numbers of the format are those of include/uapi/linux/btf.h.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};
use zdt_common::OFFSET_SPECS;

use super::{
    archive::Kernel,
    elf::{section, sections, text_at, u32_at, usize_at},
    vm,
};
use crate::layout;

/// Enums of which names are used, and the names' beginning: all of the first two, one of the third.
const ENUMS: [(&str, &str); 3] = [
    ("sk_rst_reason", ""),
    ("skb_drop_reason", ""),
    ("bpf_func_id", "BPF_FUNC_task_pt_regs"),
];

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const TYPE_TAG: u32 = 18;

/// Writes the cut type information of one kernel.
pub fn cut(kernel: &Kernel) -> Result<()> {
    let vmlinux = fs::read(vm::vmlinux(kernel)?)?;
    let base = section(&vmlinux, ".BTF").context("this kernel has no BTF")?;
    let module = vm::module(&kernel.modules().join("kernel/net/netfilter/nf_conntrack.ko")).ok();
    let module = module.as_deref().and_then(|m| section(m, ".BTF"));
    let btf = Btf::read(base, module).context("its BTF is not understood")?;
    let object = fs::read(
        layout::target()
            .join("ebpf")
            .join(layout::BPF_TARGET)
            .join("release/zdt-ebpf"),
    )
    .context("the eBPF object is not built")?;
    let tracepoints = sections(&object).context("the eBPF object is no ELF file")?;
    let tracepoints = tracepoints
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("tp_btf/"));
    let cut = Cut::of(&btf, tracepoints.map(str::to_owned).collect()).context("its BTF is not understood")?;
    let dir = layout::root().join("tests/fixtures/btf");
    fs::create_dir_all(&dir)?;
    let file = dir.join(format!("{}.btf", kernel.series));
    fs::write(&file, &cut)?;
    eprintln!(
        "kernels: {} has {} bytes of {}",
        file.display(),
        cut.len(),
        base.len()
    );
    Ok(())
}

/// One type: what follows its name.
struct Type {
    name: u32,
    kind: u32,
    flag: bool,
    /// Size, or the number of another type.
    size: u32,
    /// Numbers behind it: in threes, twos or ones, by its kind.
    rest: Vec<u32>,
}

struct Btf {
    /// By number; 0 is void.
    types: Vec<Type>,
    names: Vec<u8>,
}

impl Btf {
    /// A kernel's, with a module's behind it: its numbers and names go on from the kernel's.
    fn read(base: &[u8], module: Option<&[u8]>) -> Option<Self> {
        let mut btf = Self {
            types: vec![Type {
                name: 0,
                kind: 0,
                flag: false,
                size: 0,
                rest: Vec::new(),
            }],
            names: Vec::new(),
        };
        btf.add(base)?;
        if let Some(module) = module {
            btf.add(module)?;
        }
        Some(btf)
    }

    fn add(&mut self, btf: &[u8]) -> Option<()> {
        let body = btf.get(usize_at(btf, 4)?..)?;
        let part = |offset: usize, len: usize| {
            let start = usize_at(btf, offset)?;
            body.get(start..start + usize_at(btf, len)?)
        };
        let (types, names) = (part(8, 12)?, part(16, 20)?);
        let mut at = 0;
        while at < types.len() {
            let info = u32_at(types, at + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let rest = match kind {
                INT | 14 | 17 => 1,
                ARRAY => 3,
                STRUCT | UNION | 15 | 19 => 3 * members,
                ENUM | FUNC_PROTO => 2 * members,
                _ => 0,
            };
            let numbers: Option<Vec<u32>> = (0..rest).map(|n| u32_at(types, at + 12 + 4 * n)).collect();
            self.types.push(Type {
                name: u32_at(types, at)?,
                kind,
                flag: info >> 31 == 1,
                size: u32_at(types, at + 8)?,
                rest: numbers?,
            });
            at += 12 + 4 * rest;
        }
        self.names.extend_from_slice(names);
        Some(())
    }

    fn get(&self, id: u32) -> Option<&Type> {
        self.types.get(usize::try_from(id).ok()?)
    }

    fn name(&self, at: u32) -> &str {
        usize::try_from(at)
            .ok()
            .and_then(|at| text_at(&self.names, at))
            .unwrap_or_default()
    }

    /// Without const, volatile, restrict, typedefs and tags.
    fn plain(&self, mut id: u32) -> Option<u32> {
        while matches!(self.get(id)?.kind, TYPEDEF..=11 | TYPE_TAG) {
            id = self.get(id)?.size;
        }
        Some(id)
    }

    /// The largest of this name: the others are private twins.
    fn largest(&self, kind: u32, name: &str) -> Option<u32> {
        let numbered = (0..).zip(&self.types);
        let named = numbered.filter(|(_, t)| t.kind == kind && self.name(t.name) == name);
        named.max_by_key(|(_, t)| t.size).map(|(id, _)| id)
    }
}

/// What is kept of it.
struct Cut<'a> {
    from: &'a Btf,
    /// Members that are on a path, by struct.
    wanted: BTreeMap<u32, BTreeSet<usize>>,
    /// New numbers by old ones.
    moved: BTreeMap<u32, u32>,
    types: Vec<Vec<u32>>,
    names: Vec<u8>,
}

impl<'a> Cut<'a> {
    fn of(from: &'a Btf, tracepoints: BTreeSet<String>) -> Option<Vec<u8>> {
        let mut cut = Self {
            from,
            wanted: BTreeMap::new(),
            moved: BTreeMap::from([(0, 0)]),
            types: Vec::new(),
            names: vec![0],
        };
        let structs: BTreeSet<&str> = OFFSET_SPECS.iter().map(|spec| spec.of).collect();
        let structs: Vec<(&str, u32)> = structs
            .into_iter()
            .filter_map(|name| Some((name, from.largest(STRUCT, name)?)))
            .collect();
        for spec in OFFSET_SPECS {
            if let Some((_, id)) = structs.iter().find(|(name, _)| *name == spec.of) {
                for path in spec.paths {
                    cut.want(*id, path);
                }
            }
        }
        for (_, id) in &structs {
            cut.keep(*id)?;
        }
        for tracepoint in tracepoints {
            cut.tracepoint(&format!("btf_trace_{tracepoint}"))?;
        }
        for (name, beginning) in ENUMS {
            if let Some(id) = from.largest(ENUM, name) {
                cut.names_of(id, beginning)?;
            }
        }
        Some(cut.finish())
    }

    /// Marks the members of a path, those without a name on the way included; false: there is no such path.
    fn want(&mut self, id: u32, path: &str) -> bool {
        let Some(id) = self.from.plain(id) else {
            return false;
        };
        let Some(of) = self.from.get(id) else { return false };
        if let Some(rest) = path.strip_prefix('[') {
            let behind = rest.split_once(']').map_or("", |(_, behind)| behind);
            let element = of.rest.first().copied().filter(|_| of.kind == ARRAY);
            return element.is_some_and(|e| self.goes_on(e, behind));
        }
        if !matches!(of.kind, STRUCT | UNION) {
            return false;
        }
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, behind) = path.split_at(end);
        for (n, member) in of.rest.chunks_exact(3).enumerate() {
            let &[named, kind, _] = member else { continue };
            let found = match self.from.name(named) {
                "" => self.want(kind, path),
                own => own == name && self.goes_on(kind, behind),
            };
            if found {
                self.wanted.entry(id).or_default().insert(n);
                return true;
            }
        }
        false
    }

    fn goes_on(&mut self, id: u32, behind: &str) -> bool {
        behind.is_empty() || self.want(id, behind.trim_start_matches('.'))
    }

    fn push(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        members: usize,
        size: u32,
        rest: &[u32],
    ) -> Option<u32> {
        let mut words = Vec::with_capacity(3 + rest.len());
        words.push(self.text(name)?);
        words.push(u32::from(flag) << 31 | kind << 24 | u32::try_from(members).ok()?);
        words.push(size);
        words.extend_from_slice(rest);
        self.types.push(words);
        u32::try_from(self.types.len()).ok()
    }

    fn text(&mut self, text: &str) -> Option<u32> {
        if text.is_empty() {
            return Some(0);
        }
        let at = u32::try_from(self.names.len()).ok()?;
        self.names.extend_from_slice(text.as_bytes());
        self.names.push(0);
        Some(at)
    }

    /// A type with what is wanted of it. What a pointer points to is not: no path goes through one.
    fn keep(&mut self, id: u32) -> Option<u32> {
        let id = self.from.plain(id)?;
        if let Some(new) = self.moved.get(&id) {
            return Some(*new);
        }
        let of = self.from.get(id)?;
        let name = self.from.name(of.name).to_owned();
        let new = match of.kind {
            STRUCT | UNION => {
                let mut members = Vec::new();
                for n in self.wanted.get(&id).cloned().unwrap_or_default() {
                    let &[named, kind, offset] = of.rest.get(3 * n..3 * n + 3)? else {
                        return None;
                    };
                    let kind = self.keep(kind)?;
                    let named = self.text(self.from.name(named))?;
                    members.extend([named, kind, offset]);
                }
                self.push(&name, of.kind, of.flag, members.len() / 3, of.size, &members)?
            }
            ARRAY => {
                let &[element, index, count] = of.rest.as_slice() else {
                    return None;
                };
                let rest = [self.keep(element)?, self.keep(index)?, count];
                self.push("", ARRAY, false, 0, 0, &rest)?
            }
            INT => self.push(&name, INT, false, 0, of.size, &of.rest)?,
            ENUM => self.push("", ENUM, false, 0, of.size, &[])?,
            // A pointer, and what no path ends at.
            _ => self.push("", PTR, false, 0, 0, &[])?,
        };
        self.moved.insert(id, new);
        Some(new)
    }

    /// A tracepoint's prototype: how many arguments, and which of them are pointers.
    fn tracepoint(&mut self, name: &str) -> Option<()> {
        let Some(id) = self.from.largest(TYPEDEF, name) else {
            return Some(()); // this kernel has no such tracepoint
        };
        let pointer = self.from.get(self.from.get(id)?.size)?;
        let function = self.from.get(pointer.size).filter(|f| f.kind == FUNC_PROTO)?;
        let mut parameters = Vec::new();
        for parameter in function.rest.chunks_exact(2) {
            let kind = self.from.plain(*parameter.get(1)?)?;
            let kind = match self.from.get(kind)?.kind {
                PTR => self.push("", PTR, false, 0, 0, &[])?,
                // 32 bits, signed (BTF_INT_SIGNED).
                _ => self.push("int", INT, false, 0, 4, &[1 << 24 | 32])?,
            };
            parameters.extend([0, kind]);
        }
        let function = self.push("", FUNC_PROTO, false, parameters.len() / 2, 0, &parameters)?;
        let pointer = self.push("", PTR, false, 0, function, &[])?;
        self.push(name, TYPEDEF, false, 0, pointer, &[]).map(drop)
    }

    /// An enum with the names that begin so.
    fn names_of(&mut self, id: u32, beginning: &str) -> Option<()> {
        let of = self.from.get(id)?;
        let mut values = Vec::new();
        for pair in of.rest.chunks_exact(2) {
            let &[name, value] = pair else { return None };
            let name = self.from.name(name);
            if name.starts_with(beginning) {
                values.extend([self.text(name)?, value]);
            }
        }
        let name = self.from.name(of.name).to_owned();
        self.push(&name, ENUM, of.flag, values.len() / 2, of.size, &values)
            .map(drop)
    }

    fn finish(self) -> Vec<u8> {
        let types: Vec<u8> = self
            .types
            .iter()
            .flatten()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // struct btf_header: magic, version, flags, then lengths and offsets.
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, len(&types), len(&types), len(&self.names)] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(self.names);
        bytes
    }
}
