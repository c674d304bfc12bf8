//! Loads, attaches and detaches one program, whatever it attaches to. Errors are text for a person.

use std::{fs::File, os::unix::fs::MetadataExt as _, path::PathBuf};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, KProbe, ProgramError,
        cgroup_skb::CgroupSkbLinkId, kprobe::KProbeLinkId, tp_btf::BtfTracePointLinkId,
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
    Function(KProbeLinkId),
    Cgroup(CgroupSkbLinkId),
}

/// Gives it to the verifier.
pub(in crate::kernel) fn load(ebpf: &mut Ebpf, program: &'static Program, btf: &Btf) -> Result<(), String> {
    let loaded = match program.place() {
        Place::Tracepoint => of_tracepoint(ebpf, program)?.load(program.tracepoint, btf),
        Place::Function { .. } => of_function(ebpf, program)?.load(),
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
            let link = of_function(ebpf, program)?.attach(program.tracepoint, 0);
            return link.map(Link::Function).map_err(|e| chain(&e));
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
        Link::Function(link) => of_function(ebpf, program)?.detach(link),
        Link::Cgroup(link) => of_cgroup(ebpf, program)?.detach(link),
    };
    detached.map_err(|e| chain(&e))
}

fn of_tracepoint<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut BtfTracePoint, String> {
    named(ebpf, program)?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
}

fn of_function<'a>(ebpf: &'a mut Ebpf, program: &'static Program) -> Result<&'a mut KProbe, String> {
    named(ebpf, program)?
        .try_into()
        .map_err(|e: ProgramError| chain(&e))
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
    ebpf.program_mut(program.name)
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
