//! Memory limits of containers: the real OOM killer acts on them. On a hybrid system the memory controller is cgroup v1's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A container's memory cgroup. Removing it is the run's (it is recorded there).
#[derive(Clone, Debug)]
pub struct Limit {
    /// Where the process is put, besides its cgroup v2.
    pub dir: PathBuf,
    v1: bool,
}

/// Where containers are limited: the mount of the v1 controller if there is one, else that of v2.
#[derive(Clone, Debug)]
pub struct Controller {
    mount: PathBuf,
    v1: bool,
}

impl Controller {
    /// Fails when this machine cannot limit memory.
    pub fn find(v2: &Path) -> io::Result<Self> {
        if let Some(mount) = v1_mount(&fs::read_to_string("/proc/self/mountinfo")?) {
            return Ok(Self { mount, v1: true });
        }
        let controllers = fs::read_to_string(v2.join("cgroup.controllers"))?;
        if controllers.split_whitespace().any(|c| c == "memory") {
            return Ok(Self {
                mount: v2.to_owned(),
                v1: false,
            });
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no memory controller in cgroup v1 or v2: a memory limit needs one",
        ))
    }

    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Makes the cgroup `below` the mount with a limit. `below`: the container's path, as in cgroup v2.
    pub fn limit(&self, below: &Path, bytes: u64) -> io::Result<Limit> {
        let dir = self.mount.join(below);
        fs::create_dir_all(&dir)?;
        let set = |file: &str, value: String| fs::write(dir.join(file), value);
        if self.v1 {
            set("memory.limit_in_bytes", bytes.to_string())?;
            // No swap, as on a node: else the limit is only where swapping begins. The file needs swap accounting.
            if dir.join("memory.memsw.limit_in_bytes").exists() {
                set("memory.memsw.limit_in_bytes", bytes.to_string())?;
            }
        } else {
            // A controller is enabled from the top down (cgroup-v2.rst, Top-down Constraint).
            for level in below.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                fs::write(self.mount.join(level).join("cgroup.subtree_control"), "+memory")?;
            }
            set("memory.max", bytes.to_string())?;
            if dir.join("memory.swap.max").exists() {
                set("memory.swap.max", "0".to_owned())?;
            }
        }
        Ok(Limit { dir, v1: self.v1 })
    }
}

impl Limit {
    /// Processes of this cgroup that the OOM killer ended. The counter is kept by both versions (mm/memcontrol.c,
    /// memcg_memory_event(MEMCG_OOM_KILL)); containerd turns any of them into the reason `OOMKilled`.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.v1 {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }
}

/// proc_pid_mountinfo(5): the super options, last, name a v1 hierarchy's controllers.
fn v1_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = file_system.split(' ');
        let is_memory = fields.next() == Some("cgroup")
            && fields.next_back()?.split(',').any(|option| option == "memory");
        is_memory.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v1_controller_is_found_by_its_name_alone() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      42 31 0:39 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        assert_eq!(v1_mount(hybrid), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(
            v1_mount("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,memory_recursiveprot\n"),
            None
        );
    }
}
