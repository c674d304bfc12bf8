//! Loads, attaches and detaches one program, whatever it attaches to. Errors are text for a person.

use std::{fs::File, os::unix::fs::MetadataExt as _, path::PathBuf};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, FEntry, KProbe, ProgramError,
        ProgramFd, cgroup_skb::CgroupSkbLinkId, fentry::FEntryLinkId, kprobe::KProbeLinkId,
        tp_btf::BtfTracePointLinkId,
    },
};

use super::{
    load::chain,
    table::{Place, Program},
};

/// An attachment.
#[derive(Debug)]
pub(in crate::kernel) enum Link {
    Tracepoint(BtfTracePointLinkId),
    Trampoline(FEntryLinkId),
    Probe(KProbeLinkId),
    Cgroup(CgroupSkbLinkId),
}

/// Gives it to the verifier.
pub(in crate::kernel) fn load(ebpf: &mut Ebpf, program: &'static Program, btf: &Btf) -> Result<(), String> {
    let loaded = match program.place() {
        Place::Tracepoint => of_tracepoint(ebpf, program)?.load(program.tracepoint, btf),
        Place::Function { .. } => {
            let loaded = of_trampoline(ebpf, program)?.load(program.tracepoint, btf);
            return loaded.or_else(|error| {
                let probe = of_probe(ebpf, program)?.load();
                probe.map_err(|e| format!("{}; {}", chain(&error), chain(&e)))
            });
        }
        Place::CgroupEgress | Place::CgroupIngress => of_cgroup(ebpf, program)?.load(),
    };
    loaded.map_err(|e| chain(&e))
}

pub(in crate::kernel) fn attach(ebpf: &mut Ebpf, program: &'static Program) -> Result<Link, String> {
    let direction = match program.place() {
        Place::Tracepoint => {
            let link = of_tracepoint(ebpf, program)?.attach();
            return link.map(Link::Tracepoint).map_err(|e| chain(&e));
        }
        Place::Function { .. } => {
            let trampoline = of_trampoline(ebpf, program)?;
            return if trampoline.fd().is_ok() {
                let link = trampoline.attach().map(Link::Trampoline);
                link.or_else(|error| probe(ebpf, program).map_err(|e| format!("{}; {e}", chain(&error))))
            } else {
                probe(ebpf, program)
            };
        }
        Place::CgroupEgress => CgroupSkbAttachType::Egress,
        Place::CgroupIngress => CgroupSkbAttachType::Ingress,
    };
    // It is a link (5.7 and later; the ring buffer needs 5.8): it ends with this process, and it goes beside the programs of
    // others whatever the mode, which must be none (kernel/bpf/cgroup.c cgroup_bpf_link_attach, BPF_F_ALLOW_MULTI).
    let mode = CgroupAttachMode::Single;
    let link = of_cgroup(ebpf, program)?.attach(root()?, direction, mode);
    link.map(Link::Cgroup).map_err(|e| chain(&e))
}

pub(in crate::kernel) fn detach(
    ebpf: &mut Ebpf,
    program: &'static Program,
    link: Link,
) -> Result<(), String> {
    let detached = match link {
        Link::Tracepoint(link) => of_tracepoint(ebpf, program)?.detach(link),
        Link::Trampoline(link) => of_trampoline(ebpf, program)?.detach(link),
        Link::Probe(link) => of_probe(ebpf, program)?.detach(link),
        Link::Cgroup(link) => of_cgroup(ebpf, program)?.detach(link),
    };
    detached.map_err(|e| chain(&e))
}

fn of_tracepoint<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut BtfTracePoint, String> {
    named(ebpf, program)?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
}

fn of_trampoline<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut FEntry, String> {
    named(ebpf, program)?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
}

/// Of the program that does the same as a trampoline, as a probe.
fn probe_name(program: &Program) -> String {
    format!("{}_probe", program.name)
}

fn of_probe<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut KProbe, String> {
    of_name(ebpf, &probe_name(program))?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
}

/// Instead of a trampoline, where the kernel has none: some load one and cannot attach it (64-bit ARM before 6.0).
fn probe(ebpf: &mut Ebpf, program: &'static Program) -> Result<Link, String> {
    let probe = of_probe(ebpf, program)?;
    let loaded = if probe.fd().is_ok() { Ok(()) } else { probe.load() };
    let link = loaded.and_then(|()| probe.attach(program.tracepoint, 0));
    link.map(Link::Probe).map_err(|e| chain(&e))
}

/// The file of the program that the kernel runs for it.
pub(in crate::kernel) fn running<'a>(ebpf: &'a Ebpf, program: &'static Program) -> Option<&'a ProgramFd> {
    let fd = |name: &str| ebpf.program(name)?.fd().ok();
    fd(&probe_name(program)).or_else(|| fd(program.name))
}

fn of_cgroup<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut CgroupSkb, String> {
    named(ebpf, program)?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
}

fn named<'a>(
    ebpf: &'a mut Ebpf,
    program: &'static Program,
) -> Result<&'a mut aya::programs::Program, String> {
    of_name(ebpf, program.name)
}

fn of_name<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program, String> {
    ebpf.program_mut(name)
        .ok_or_else(|| "the eBPF object has no such program, run `cargo xtask build`".to_owned())
}

/// The root of cgroup v2, wherever it is mounted.
fn root() -> Result<File, String> {
    let path = cgroup_root()?;
    File::open(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Where the root of cgroup v2 is mounted.
pub fn cgroup_root() -> Result<PathBuf, String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    mounted(&mounts)
        .into_iter()
        .find(|path| path.metadata().is_ok_and(|m| m.ino() == ROOT_INODE))
        .ok_or_else(|| {
            "the root of cgroup v2 is mounted nowhere: in a container, mount the host's /sys/fs/cgroup"
                .to_owned()
        })
}

/// A container has a cgroup namespace of its own, in which its own cgroup is mounted as the root; the inode of the true one
/// is the first of its file system (fs/kernfs/dir.c kernfs_create_root).
const ROOT_INODE: u64 = 1;

/// Where cgroup v2 is mounted (proc(5), mountinfo: the fifth field; the type stands behind the dash).
fn mounted(mounts: &str) -> Vec<PathBuf> {
    let of_cgroup2 = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    of_cgroup2
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::mounted;

    #[test]
    fn every_mount_of_cgroup_v2_is_found_and_none_of_version_1() {
        let mounts = "31 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      42 31 0:39 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      99 31 0:38 / /host/cgroup ro shared:3 - cgroup2 cgroup2 rw\n";
        let paths = mounted(mounts);
        assert_eq!(
            paths,
            [Path::new("/sys/fs/cgroup/unified"), Path::new("/host/cgroup")]
        );
    }
}
