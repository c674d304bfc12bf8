//! The built binary, for tests: a folder to work in, and what a run must end with.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests only by `#[test]`; what fails here must fail the test"
)]

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub const ZDT: &str = env!("CARGO_BIN_EXE_zdt");

/// A folder of one test, gone with it.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("zdt-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // The test that gives up root reads what is in it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// A kubeconfig whose server is a port that nobody listens on.
    pub fn kubeconfig(&self) -> PathBuf {
        super::api::kubeconfig(&self.0, SocketAddr::from(([127, 0, 0, 1], 9)))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// zdt without what the environment may say.
pub fn zdt(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for name in [
        "KUBECONFIG",
        "NODE_NAME",
        "ZDT_LOG",
        "ZDT_BTF_PATH",
        "KUBERNETES_SERVICE_HOST",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end: this exit code, these texts on stdout or stderr, and no panic.
#[track_caller]
pub fn ends(command: &mut Command, code: i32, says: &[&str]) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for text in says {
        assert!(
            stderr.contains(text) || stdout.contains(text),
            "no {text:?} in\n{stdout}\n{stderr}"
        );
    }
    output
}
