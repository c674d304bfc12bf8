//! The daemon runs with the capabilities that its manifest asks for, and no more: every scenario tests them.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::DaemonSet;

const MANIFEST: &str = include_str!("../../../deploy/base/daemonset.yaml");

/// What goes before a command so that it runs as the container would: setpriv(1) of util-linux. `paths` must be reached.
pub(super) fn as_in_the_manifest(paths: &[&Path]) -> Result<Vec<String>> {
    let mut set = "-all".to_owned();
    for capability in capabilities()? {
        set += ",+";
        set += &capability.to_lowercase();
    }
    if !paths.iter().all(|path| open_to_root(path)) {
        // A developer's home that is closed to others: root without capabilities cannot pass, and a container's files are
        // not there.
        tracing::warn!(
            "the daemon runs with DAC_READ_SEARCH, too: it would not reach its own files without it"
        );
        set += ",+dac_read_search";
    }
    Ok(vec![
        "setpriv".to_owned(),
        "--no-new-privs".to_owned(),
        format!("--bounding-set={set}"),
        "--inh-caps=-all".to_owned(),
        "--".to_owned(),
    ])
}

/// What `kubectl apply -k deploy/base` installs.
pub(super) fn manifest() -> Result<DaemonSet> {
    serde_saphyr::from_str(MANIFEST).context("deploy/base/daemonset.yaml is no DaemonSet")
}

fn capabilities() -> Result<Vec<String>> {
    let pod = manifest()?.spec.and_then(|s| s.template.spec);
    let container = pod.and_then(|p| p.containers.into_iter().next());
    let capabilities = container
        .and_then(|c| c.security_context)
        .and_then(|s| s.capabilities)
        .context("deploy/base/daemonset.yaml names no capabilities")?;
    capabilities
        .add
        .context("deploy/base/daemonset.yaml adds no capability")
}

/// Whether uid 0 may pass all folders above without a capability.
fn open_to_root(path: &Path) -> bool {
    path.ancestors().skip(1).all(|dir| {
        let Ok(meta) = dir.metadata() else { return false };
        let bit = if meta.uid() == 0 { 0o100 } else { 0o001 };
        meta.mode() & bit != 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_the_manifest_adds_is_all_that_is_left() {
        let command = as_in_the_manifest(&[Path::new("/proc/self/exe")]).unwrap();
        assert_eq!(
            command.join(" "),
            "setpriv --no-new-privs --bounding-set=-all,+bpf,+perfmon,+net_admin --inh-caps=-all --"
        );
    }

    #[test]
    fn folder_that_nobody_may_pass_is_seen() {
        let dir = std::env::temp_dir().join(format!("zdt-closed-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o600)).unwrap();
        let open = open_to_root(&dir.join("file"));
        std::fs::remove_dir(&dir).unwrap();
        assert!(!open);
        assert!(open_to_root(Path::new("/proc/self/exe")));
    }
}
