//! A lab run that others look at from outside, until they release it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a part of tests; what fails here must fail the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A lab that runs until it is released.
pub struct Lab {
    child: Child,
    dir: PathBuf,
}

impl Lab {
    pub fn start(dir: &Path, name: &str, scenario: &str) -> Self {
        let lab = Path::new(env!("CARGO_BIN_EXE_zdt-lab"));
        let text = scenario;
        let scenario = dir.join(format!("{name}.yaml"));
        fs::write(&scenario, text).unwrap();
        let child = Command::new(lab)
            .args(["run", "--scrape", "--hold", "--zdt"])
            .arg(lab.with_file_name("zdt"))
            .arg("--out")
            .arg(dir)
            .arg(scenario)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("lab.log")).unwrap())
            .spawn()
            .unwrap();
        let dir = dir.join(format!("{name}-1"));
        Self { child, dir }
    }

    /// The network namespace of each node and where its daemon listens, once it does. The lab may wait for other labs.
    pub fn nodes(&mut self) -> Vec<(String, String)> {
        let file = self.dir.join("daemons.json");
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                let daemons: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
                let each = daemons.iter().map(|d| (d["netns"].clone(), d["addr"].clone()));
                return each.collect();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the lab has ended");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Failed requests that the daemon has printed.
    pub fn verdicts(&self) -> usize {
        let text = fs::read_to_string(self.dir.join("verdicts.jsonl")).unwrap_or_default();
        let verdict =
            |l: &&str| l.starts_with("{\"kind\":\"verdict\"") && !l.contains("\"blame\":\"not-a-request\"");
        text.lines().filter(verdict).count()
    }

    pub fn release(mut self) {
        fs::write(self.dir.join("release"), "").unwrap();
        let ended = self.child.wait().unwrap();
        let log = fs::read_to_string(self.dir.join("../lab.log")).unwrap_or_default();
        assert!(ended.success(), "{log}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // It removes what it made.
            let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
            let _ = self.child.wait();
        }
    }
}

/// zdt in the node's namespace.
pub fn zdt(netns: &str, args: &[&str]) -> Command {
    let zdt = Path::new(env!("CARGO_BIN_EXE_zdt-lab")).with_file_name("zdt");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns]).arg(zdt).args(args);
    command
}
