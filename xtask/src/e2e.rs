//! `cargo xtask e2e`: builds the lab's programs and runs the scenarios that a cluster can express on one that has zdt installed;
//! without a kubeconfig on a lab cluster of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{build, child, layout};

#[derive(clap::Args)]
pub struct Args {
    /// How to reach the cluster, which has zdt installed (deploy/base); the default is a lab cluster, made and removed.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Image of the test server and the load client (`cargo xtask image --lab`), as the nodes know it.
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// What the names of the namespaces begin with, one for each scenario, made and removed.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only the scenario of this name; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// How many seconds longer than the scenario says the client sends; the default is 20, in the lab 0.
    #[arg(long, value_name = "SECONDS")]
    longer: Option<u32>,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    build::all(false)?;
    let lab = layout::binary("zdt-lab", false);
    if let Some(kubeconfig) = &args.kubeconfig {
        // Relative to where the developer is, not to the repository.
        let kubeconfig = std::path::absolute(kubeconfig).context("the kubeconfig has no absolute path")?;
        let mut lab = child::command(lab);
        e2e(&mut lab, args, &kubeconfig, args.longer.unwrap_or(20));
        return child::status(&mut lab);
    }
    let mut up = child::as_root(&lab)?;
    // Late enough for rollouts to lose requests.
    up.args(["up", "--until-eof", "--rules-delay-ms", "1000", "--zdt"]);
    let mut up = Up(up
        .arg(layout::binary("zdt", false))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the lab")?);
    let kubeconfig = up.kubeconfig()?;
    // The kubeconfig is root's: who has it may run anything in a pod.
    let mut lab = child::as_root(&lab)?;
    e2e(&mut lab, args, &kubeconfig, args.longer.unwrap_or(0));
    let done = child::status(&mut lab);
    up.stop()?;
    done
}

/// The lab cluster. It ends with its standard input.
struct Up(Child);

impl Up {
    fn kubeconfig(&mut self) -> Result<PathBuf> {
        let stdout = self.0.stdout.take().context("the lab has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the lab ended before its cluster was there");
        }
        Ok(line.trim().into())
    }

    fn stop(&mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if !status.success() {
            bail!("the lab ended with {status}");
        }
        Ok(())
    }
}

/// The command that runs the scenarios.
fn e2e(lab: &mut Command, args: &Args, kubeconfig: &Path, longer_s: u32) {
    lab.arg("e2e").arg("--kubeconfig").arg(kubeconfig);
    lab.arg("--scenarios").arg(layout::scenarios());
    lab.arg("--longer").arg(longer_s.to_string());
    let named = [("--image", &args.image), ("--namespace", &args.namespace)];
    for (switch, value) in named {
        if let Some(value) = value {
            lab.arg(switch).arg(value);
        }
    }
    for name in &args.scenario {
        lab.arg("--scenario").arg(name);
    }
    if args.json {
        lab.arg("--json");
    }
}
