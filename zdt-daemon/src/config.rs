//! The only reader of arguments and environment.

mod access;
mod guard;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

pub use self::{access::Access, guard::Guard};
use crate::{
    cli::Server,
    sink::{Format, otlp::Collector},
};

/// zdt, the zero-downtime tracker: names the cause of each request that a rollout failed.
#[derive(Debug, Parser)]
#[command(name = "zdt", version, max_term_width = 100)]
pub struct Cli {
    /// What to log on stderr, as tracing-subscriber's EnvFilter reads it (`debug`, `zdt_daemon=debug,kube=info`). kube says of
    /// itself what zdt says once, each time
    #[arg(
        long,
        global = true,
        env = "ZDT_LOG",
        default_value = "info,kube_client=off",
        value_name = "FILTER"
    )]
    pub log: String,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch this node and print a verdict for each failed request
    Run(Run),
    /// Write what happens on this node to a file, for `zdt replay`
    Record(Record),
    /// Print the verdicts of a recorded file
    Replay(Replay),
    /// Print how long nodes took to let go of ending pods, and to take up new ones
    ///
    /// Reads what was recorded, not a running zdt: records of `zdt record FILE` or `zdt run --record FILE`, which are
    /// replayed, or the outputs of `zdt run -o json`. Give the files of several nodes to compare them: each node sees
    /// only its own rules.
    ///
    /// Exits with 1 if a pod stopped serving before the rules of a node that was read let go of it, with 2 if there is
    /// nothing to print.
    Propagation(Propagation),
    /// Say what a rollout broke, why, and what to change
    ///
    /// Reads what was recorded, not a running zdt: records of `zdt record FILE` or `zdt run --record FILE`, which are
    /// replayed, or the outputs of `zdt run -o json`. Give the files of several nodes to join them.
    ///
    /// Exits with 1 if a request failed by a rollout or for an unknown reason, with 2 if there is nothing to report.
    Report(Report),
    /// Print the whole evidence of one failed request
    Explain(Explain),
    /// Wait for a rollout and say by the exit status whether it lost requests
    ///
    /// Asks the zdt of each node over HTTP. It waits for a rollout that is under way, or that begins within the timeout.
    ///
    /// Exits with 0 if no request was lost to it (or no more than the budget), with 1 and the report if some were, and
    /// with 2 if it cannot tell: a zdt did not answer, does not see everything, was restarted or lost events, pods ended on
    /// nodes that were not asked, or the time ran out.
    Gate(Gate),
    /// Answer over HTTP what `zdt gate` answers, for Argo Rollouts and Flagger
    ///
    /// Asks the zdt of every node at each question: GET /api/v1/gate?workload=deployment/web&namespace=shop, or the POST of a
    /// Flagger webhook. It means the newest rollout that is under way or ended in the last 10 minutes (`&since=`), or the one
    /// to a template (`&to=HASH`). GET says it in JSON; POST by its status: 200 nothing lost (so far, unless `over=true` asks
    /// for the end), 409 lost. With both, 503 means that it cannot tell.
    ServeGate(ServeGate),
    /// Show a rollout while it is under way, then its report
    Watch(Watch),
    /// List the causes that zdt knows
    Causes(Causes),
    /// Say what this kernel and these permissions allow, and what each missing thing costs
    Doctor(Doctor),
    /// Print the version, and the SHA-256 of the eBPF object inside
    Version,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    pub output: OutputFormat,
    /// Also write the input stream to FILE
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Serve the page (/), what it is made of (/api/v1), /metrics, /healthz and /readyz on this address of this machine.
    ///
    /// Without it nothing is served. The port is 9734 unless it is given. Whoever can reach the address can read it
    /// unless --token-review is given: there are names and addresses of pods and clients, and no passwords; nothing can be
    /// changed there.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub guard: Guard,
    /// Write a Kubernetes Event on the workload after a rollout that lost requests, one for each cause
    #[arg(long)]
    pub events: bool,
    /// Send verdicts as OpenTelemetry log records to the collector at URL (OTLP over plain HTTP), as
    /// http://collector.monitoring:4318
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<Collector>,
}

/// The port of the HTTP interface unless another one is given.
pub const PORT: u16 = 9734;

/// `127.0.0.1`, `10.0.0.7:9734`, `::1`, `[::1]` or `[::1]:9734`.
fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let plain = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let ip: Result<IpAddr, _> = plain.unwrap_or(text).parse();
    ip.map(|ip| SocketAddr::new(ip, PORT)).map_err(|_| {
        "wanted an IP address with or without a port, as 127.0.0.1, 10.0.0.7:9734 or [::1]:9734".to_owned()
    })
}

#[derive(Debug, Args)]
pub struct Record {
    /// Where to write; an existing file is replaced
    pub file: PathBuf,
    #[command(flatten)]
    pub node: Node,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// A file that `zdt record` wrote; `-` is standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub output: OutputFormat,
}

#[derive(Debug, Args)]
pub struct Propagation {
    /// Only this namespace
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Only this workload: `web`, or `deployment/web`
    pub workload: Option<String>,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub output: OutputFormat,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Only this namespace
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Only this workload: `web`, or `deployment/web`
    pub workload: Option<String>,
    #[command(flatten)]
    pub sources: Sources,
    /// Only what happened so long before the end of what is read, as `90s`, `10m` or `1h 30m`
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub since: Option<jiff::SignedDuration>,
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ReportFormat,
    /// Print the patch alone, for `kubectl patch --patch-file /dev/stdin`
    #[arg(long, conflicts_with = "format")]
    pub patch: bool,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// One screen for people
    #[default]
    Text,
    /// One object
    Json,
    /// For CI systems
    Markdown,
    /// One file that needs nothing else
    Html,
}

fn since(text: &str) -> Result<jiff::SignedDuration, String> {
    let duration: Result<jiff::SignedDuration, _> = text.parse();
    duration.map_err(|_| "wanted a duration, as 90s, 10m or \"1h 30m\"".to_owned())
}

/// A workload, and who is asked about it.
#[derive(Debug, Args)]
pub struct Of {
    /// Which workload: `deployment/web`
    pub workload: String,
    /// Its namespace; without it any
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// The HTTP address of zdt (`zdt run --listen`), as http://10.0.0.7:9734, or a name of several addresses, which are all
    /// asked. May be given several times: each node's zdt counts what failed there, so ask all
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:9734")]
    pub servers: Vec<Server>,
    #[command(flatten)]
    pub access: Access,
}

#[derive(Debug, Args)]
pub struct Gate {
    #[command(flatten)]
    pub of: Of,
    /// So many lost requests are allowed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub budget: usize,
    /// How long to wait, as `90s`, `10m` or `1h 30m`
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = since)]
    pub timeout: jiff::SignedDuration,
    /// Rollouts that were over count, too, when they ended at most so long ago
    #[arg(long, value_name = "DURATION", value_parser = since)]
    pub since: Option<jiff::SignedDuration>,
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: GateFormat,
    /// Ask a record or outputs of zdt instead (`-` is standard input); all of its rollouts count. May be given several
    /// times
    #[arg(long = "record", value_name = "FILE", conflicts_with_all = ["servers", "timeout", "since"])]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServeGate {
    /// Serve on this address of this machine. The port is 9734 unless it is given
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = listen)]
    pub listen: SocketAddr,
    /// The HTTP address of zdt, or a name of several, as a headless service's, which are all asked. May be given several times
    #[arg(long = "server", value_name = "URL", required = true)]
    pub servers: Vec<Server>,
    #[command(flatten)]
    pub access: Access,
}

/// How the gate's answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GateFormat {
    /// One screen for people
    #[default]
    Text,
    /// For CI systems
    Markdown,
    /// A test in JUnit's XML: passed, failed, or in error when it cannot be told
    Junit,
    /// One object
    Json,
}

#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub of: Of,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Its `id`, or a part of it that no other has
    pub verdict: String,
    #[command(flatten)]
    pub sources: Sources,
}

/// What is read: files, or what the daemons of a cluster have said.
#[derive(Debug, Args)]
pub struct Sources {
    /// A record or outputs of zdt; `-` is standard input. May be given several times. Without it every zdt of the cluster
    /// is asked, through the API server: the logs of its pods
    #[arg(long = "record", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Kubeconfig file of the cluster [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of zdt's own pods
    #[arg(long, value_name = "NS", default_value = "zdt")]
    pub zdt_namespace: String,
}

impl Sources {
    /// The file that kubectl would take; None: the pod's service account.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        let named = self.kubeconfig.clone().filter(|f| !f.as_os_str().is_empty());
        let own = || Some(std::env::home_dir()?.join(".kube/config")).filter(|f| f.exists());
        named.or_else(own)
    }
}

#[derive(Debug, Args)]
pub struct Causes {
    /// The page of this cause: what it is, how it is told from its look-alikes, what to change (Markdown).
    pub name: Option<String>,
    #[command(flatten)]
    pub output: OutputFormat,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub kernel: Kernel,
    #[command(flatten)]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct OutputFormat {
    /// How to print
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub format: Format,
}

/// Which node, and how to reach its API server.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// Kubeconfig file; without it the pod's service account is used
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node as Kubernetes has it
    #[arg(long = "node", env = "NODE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub kernel: Kernel,
}

#[derive(Clone, Debug, Args)]
pub struct Kernel {
    /// Type information of the running kernel
    #[arg(
        long,
        hide = true,
        env = "ZDT_BTF_PATH",
        default_value = "/sys/kernel/btf/vmlinux",
        value_name = "FILE"
    )]
    pub btf_path: PathBuf,
}

impl Cli {
    /// Reads arguments and environment; on a usage error prints it and exits with 2, on `--help` with 0.
    pub fn read() -> Self {
        let mut cli = Self::parse();
        // `KUBECONFIG=` and `NODE_NAME=` mean the same as without them, as for kubectl.
        match &mut cli.verb {
            Verb::Run(Run { node, .. }) | Verb::Record(Record { node, .. }) => {
                node.kubeconfig.take_if(|f| f.as_os_str().is_empty());
                node.name.take_if(|n| n.is_empty());
            }
            Verb::Replay(_)
            | Verb::Propagation(_)
            | Verb::Report(_)
            | Verb::Explain(_)
            | Verb::Gate(_)
            | Verb::ServeGate(_)
            | Verb::Watch(_)
            | Verb::Causes(_)
            | Verb::Doctor(_)
            | Verb::Version => {}
        }
        cli
    }
}

#[cfg(test)]
mod tests;
