//! Pod and container cgroups, named as the kubelet and containerd name them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;

/// Who names the cgroups (kubelet `cgroupDriver`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// `kubepods/besteffort/pod<uid>/<id>`
    #[default]
    Cgroupfs,
    /// `kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<uid>.slice/cri-containerd-<id>.scope`
    Systemd,
}

/// Quality of service class: a level of the cgroup tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// No level of its own.
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// `status.qosClass` if set, else from the resources (pkg/apis/core/v1/helper/qos/qos.go, ComputePodQOS).
    pub fn of(pod: &Pod) -> Self {
        match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
            Some("Guaranteed") => return Self::Guaranteed,
            Some("Burstable") => return Self::Burstable,
            Some("BestEffort") => return Self::BestEffort,
            _ => {}
        }
        let containers = pod
            .spec
            .as_ref()
            .map(|s| s.containers.as_slice())
            .unwrap_or_default();
        let (mut any, mut all) = (false, !containers.is_empty());
        for container in containers {
            let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            for resource in ["cpu", "memory"] {
                let limit = limits.and_then(|l| l.get(resource));
                let request = requests.and_then(|r| r.get(resource));
                any |= limit.is_some() || request.is_some();
                // A request that is left out equals the limit.
                all &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
            }
        }
        match (any, all) {
            (_, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
            (false, false) => Self::BestEffort,
        }
    }

    /// Name in paths and in `status.qosClass`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl CgroupDriver {
    /// The pod's cgroup below the mount.
    pub fn pod(self, qos: Qos, uid: &str) -> PathBuf {
        let level = qos.class().to_ascii_lowercase();
        match (self, qos) {
            (Self::Cgroupfs, Qos::Guaranteed) => format!("kubepods/pod{uid}").into(),
            (Self::Cgroupfs, _) => format!("kubepods/{level}/pod{uid}").into(),
            (Self::Systemd, _) => {
                // systemd reads `-` in a slice's name as a level.
                let uid = uid.replace('-', "_");
                match qos {
                    Qos::Guaranteed => format!("kubepods.slice/kubepods-pod{uid}.slice").into(),
                    _ => format!("kubepods.slice/kubepods-{level}.slice/kubepods-{level}-pod{uid}.slice")
                        .into(),
                }
            }
        }
    }

    /// A container's cgroup inside its pod's.
    pub fn container(self, pod: &Path, id: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => pod.join(id),
            Self::Systemd => pod.join(format!("cri-containerd-{id}.scope")),
        }
    }
}

/// The v2 cgroup of a process, below `mount` (cgroups(7), /proc/[pid]/cgroup).
pub fn of(mount: &Path, pid: u32) -> io::Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    path.map(|path| mount.join(path))
        .ok_or_else(|| io::Error::other(format!("process {pid} is in no cgroup of version 2")))
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or below it on a hybrid system.
pub fn mount() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    mount_in(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup v2 mount: mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    })
}

/// proc_pid_mountinfo(5): field 5 is the mount point; the file system type follows the field `-`.
fn mount_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system
            .starts_with("cgroup2 ")
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_two_drivers() {
        let pod = CgroupDriver::Cgroupfs.pod(Qos::BestEffort, "1-2");
        assert_eq!(
            CgroupDriver::Cgroupfs.container(&pod, "ab"),
            Path::new("kubepods/besteffort/pod1-2/ab")
        );
        let pod = CgroupDriver::Systemd.pod(Qos::Burstable, "1-2");
        assert_eq!(
            CgroupDriver::Systemd.container(&pod, "ab"),
            Path::new(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ab.scope"
            )
        );
        assert_eq!(
            CgroupDriver::Systemd.pod(Qos::Guaranteed, "1"),
            Path::new("kubepods.slice/kubepods-pod1.slice")
        );
    }

    #[test]
    fn the_mount_is_found_on_hybrid_and_pure_systems() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            mount_in("1 2 0:3 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"),
            Some("/sys/fs/cgroup".into())
        );
        assert_eq!(mount_in("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn quality_of_service_follows_the_resources() {
        let pod = |resources: &str| -> Pod {
            serde_json::from_str(&format!(
                r#"{{"spec":{{"containers":[{{"name":"a","resources":{resources}}}]}}}}"#
            ))
            .unwrap()
        };
        assert_eq!(Qos::of(&pod("{}")), Qos::BestEffort);
        assert_eq!(Qos::of(&pod(r#"{"requests":{"cpu":"1"}}"#)), Qos::Burstable);
        assert_eq!(
            Qos::of(&pod(r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#)),
            Qos::Guaranteed
        );
    }
}
