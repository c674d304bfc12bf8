//! `cargo xtask kernels`: real kernels in QEMU. In each: what `zdt doctor` says of every hook and what its verification cost, the
//! tests of the kernel half on real packets, and scenarios of the lab with their score.
#![expect(
    clippy::disallowed_methods,
    reason = "an emulated machine has a time limit, and libraries of its own"
)]

mod archive;
mod btf;
mod budget;
mod elf;
mod report;
mod scenarios;
mod score;
mod vm;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use self::{archive::Kernel, budget::Budget, report::Row};
use crate::{build, child, layout, setup};

/// Debian's at this time: the long-term ones that it has, and the newest.
const SERIES: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// Tests on real packets, by binary: of each hook what it reports beside what the socket, /proc and conntrack say. Not those of
/// floods, and of times that an emulated machine does not keep.
const TESTS: [(&str, &[&str]); 4] = [
    (
        "kernel",
        &[
            "a_refused_",
            "a_close_with_unread_data",
            "a_syn_into_silence",
            "the_counters_are",
            "a_connection_that_was_never_accepted",
            "a_pods_listener",
            "a_server_killed_after",
            "a_victim_of_the_memory_limit",
            "a_full_accept_queue",
        ],
    ),
    (
        "packets",
        &[
            "a_rejected_syn",
            "a_syn_to_a_pod_in_transition",
            "every_error_that_a_pod_in_transition_answers_is_seen_once_over_ipv6",
        ],
    ),
    ("iptables_legacy", &["a_replaced_ipv4_table"]),
    // With the capabilities of the manifest, and no more.
    (
        "run",
        &["with_the_manifests_capabilities", "little_locked_memory"],
    ),
];

/// For whoever reads what the machine said: one failure that has no cause there, and what was recorded of its client.
const UNEXPLAINED: &str = r#"echo '== unexplained'
v=$(grep -hm1 '"cause":"unexplained"' /tmp/out/*/verdicts*.jsonl | grep -v not-a-request | head -1); echo "$v"
c=$(echo "$v" | sed 's/.*"client":"\([^"]*\)".*/\1/'); [ -n "$c" ] && grep -hF "$c" /tmp/out/*/record*.jsonl | head -20
grep -hE '"what":"(start|loss)"|"hook":"(signal|listener)"' /tmp/out/*/record.jsonl | head -40
head -n 40 /tmp/out/*/daemon.log"#;

/// Of one kernel, on CPUs that others use as well. A run that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(20);
/// For `zdt doctor` alone, which takes 20 s.
const LIMIT_OF_A_BOOT: Duration = Duration::from_mins(4);
const LIMIT_PER_SCENARIO: Duration = Duration::from_mins(4);

#[derive(clap::Args)]
pub struct Args {
    /// Series of kernels; the default is 5.10 6.1 6.12 6.18 7
    series: Vec<String>,
    /// Which scenarios of the lab
    #[arg(long, value_enum, default_value_t = Scenarios::Few)]
    scenarios: Scenarios,
    /// Optimised binaries for the lab: built once, and several times faster there
    #[arg(long)]
    release: bool,
    /// A folder with zdt and zdt-lab for the lab, which are not built then
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    binaries: Option<PathBuf>,
    /// Leave the tests of the kernel half out
    #[arg(long)]
    no_tests: bool,
    /// Machines at a time: a scenario mostly waits
    #[arg(long, default_value_t = 2)]
    machines: usize,
    /// Exactly one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Boot nothing: cut the type information of each kernel down to what zdt asks, for tests/fixtures/btf
    #[arg(long)]
    btf: bool,
    /// Write what the verifier needed into the budget, instead of comparing
    #[arg(long)]
    bless: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenarios {
    None,
    Few,
    All,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let Some(rows) = rows(args)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if args.json {
        println!("{}", report::json(&rows)?);
    } else {
        print!("{}", report::table(&rows));
    }
    let ok = rows.iter().all(|row| row.ok);
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What was seen in each machine; None where only type information was cut.
fn rows(args: &Args) -> Result<Option<Vec<Row>>> {
    if !child::is_root()? {
        bail!("an emulated machine sees this machine's files as root does: run it as root");
    }
    setup::kernels()?;
    setup::lab()?;
    let series: Vec<String> = if args.series.is_empty() {
        SERIES.map(str::to_owned).into()
    } else {
        args.series.clone()
    };
    let kernels = archive::kernels(&series)?;
    if args.btf {
        build::ebpf()?;
        kernels.iter().try_for_each(btf::cut)?;
        return Ok(None);
    }
    let qemu = archive::qemu()?;
    let lab = if let Some(dir) = &args.binaries {
        build::ebpf()?;
        let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
        ["zdt", "zdt-lab"].map(|name| dir.join(name))
    } else {
        build::all(args.release)?;
        ["zdt", "zdt-lab"].map(|name| layout::binary(name, args.release))
    };
    let lab = copied(&lab, "lab")?;
    let mut tests = test_binaries()?;
    // Built with them.
    tests.push(layout::binary("zdt", false));
    let tests = copied(&tests, "tests")?;
    let scenarios = match args.scenarios {
        Scenarios::None => Vec::new(),
        Scenarios::Few => scenarios::few(),
        Scenarios::All => scenarios::all(),
    };
    let script = doctor(&tests) + &tested(&tests, args.no_tests) + &performed(&lab, &scenarios)?;
    let mut budget = Budget::read()?;
    let limit = if args.no_tests && scenarios.is_empty() {
        LIMIT_OF_A_BOOT
    } else {
        LIMIT + LIMIT_PER_SCENARIO * u32::try_from(scenarios.len()).unwrap_or_default()
    };
    let one = |kernel: &Kernel| -> Result<Row> {
        let (outcome, seconds) = child::timed(|| vm::run(&qemu, kernel, &script, limit));
        let outcome = outcome?;
        let kept = kernel.root.join("said");
        fs::write(
            &kept,
            format!("{}\n{}\n{}", outcome.stdout, outcome.stderr, outcome.console),
        )?;
        let row = Row::of(
            kernel,
            &outcome,
            seconds,
            (!args.no_tests, scenarios.len()),
            &budget,
            args.bless,
        );
        eprintln!(
            "kernels: {} in {seconds:.0} s: {}; what it said is in {}",
            kernel.release,
            if row.ok { "ok" } else { "FAILED" },
            kept.display()
        );
        for complaint in &row.complaints {
            eprintln!("kernels:   {complaint}");
        }
        Ok(row)
    };
    let rows = side_by_side(&kernels, args.machines, one)?;
    if args.bless {
        for row in &rows {
            budget.take(row);
        }
    }
    if args.bless {
        budget.write()?;
    }
    Ok(Some(rows))
}

/// Each kernel that can be had takes the kernel half, at no more than the verifier's budget. For CI, which is to depend on no
/// archive and no emulator: what cannot be had is said, and left out.
pub fn boots() -> Result<()> {
    let had = |series: &&&str| {
        let there = setup::kernels()
            .and_then(|()| archive::kernels(&[(**series).to_owned()]))
            .and_then(|_| archive::qemu());
        there
            .inspect_err(|e| eprintln!("kernels: {series} cannot be had, so it is left out: {e:#}"))
            .is_ok()
    };
    let series: Vec<String> = SERIES.iter().filter(had).map(|s| (*s).to_owned()).collect();
    if series.is_empty() {
        return Ok(());
    }
    let args = Args {
        series,
        scenarios: Scenarios::None,
        release: false,
        binaries: None,
        no_tests: true,
        machines: 2,
        json: false,
        btf: false,
        bless: false,
    };
    let rows = match rows(&args) {
        Ok(rows) => rows.unwrap_or_default(),
        Err(error) => {
            eprintln!("kernels: no machine could be run here, so all are left out: {error:#}");
            return Ok(());
        }
    };
    eprint!("{}", report::table(&rows));
    for row in rows.iter().filter(|row| !row.ended) {
        eprintln!(
            "kernels: no machine could be run with {} here, so it is left out",
            row.series
        );
    }
    if rows.iter().any(|row| row.ended && !row.ok) {
        bail!("see above; `cargo xtask kernels` runs them again, with tests and scenarios");
    }
    Ok(())
}

/// So many at a time; what came of them is in their order.
fn side_by_side(
    kernels: &[Kernel],
    machines: usize,
    one: impl Fn(&Kernel) -> Result<Row> + Sync,
) -> Result<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Row)>> {
        let mut rows = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            match kernels.get(n) {
                Some(kernel) => rows.push((n, one(kernel)?)),
                None => return Ok(rows),
            }
        }
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..machines.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut rows = Vec::new();
    for worker in done {
        rows.extend(worker.map_err(|_| anyhow!("a machine's thread panicked"))??);
    }
    rows.sort_by_key(|(n, _)| *n);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// The built test programs, in the order of [`TESTS`].
fn test_binaries() -> Result<Vec<PathBuf>> {
    let mut cargo = child::cargo();
    cargo.args([
        "test",
        "--locked",
        "--no-run",
        "--message-format=json",
        "--package",
        "zdt-daemon",
    ]);
    for (name, _) in TESTS {
        cargo.args(["--test", name]);
    }
    let said = child::stdout(&mut cargo)?;
    let built: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect();
    let path = |name: &str| {
        let artifact = built.iter().find(|a| {
            a.pointer("/target/name").and_then(|n| n.as_str()) == Some(name)
                && a.get("executable").is_some_and(serde_json::Value::is_string)
        });
        let file = artifact.and_then(|a| a.get("executable")?.as_str());
        file.map(PathBuf::from)
            .with_context(|| format!("cargo built no test {name}"))
    };
    TESTS.iter().map(|(name, _)| path(name)).collect()
}

/// Copies of programs where the machines see them: their /tmp is their own. They stay what they are while something is built.
fn copied(programs: &[PathBuf], name: &str) -> Result<Vec<PathBuf>> {
    let folder = archive::folder().join(name);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder)?;
    let copy = |program: &PathBuf| {
        let copy = folder.join(program.file_name().context("a program without a name")?);
        // Without debug information, if there is a program that takes it away: 20 MB instead of 120 through a slow file system.
        let mut strip = child::command("strip");
        strip.arg("--strip-debug").arg("-o").arg(&copy).arg(program);
        if child::run(&mut strip).is_err() {
            fs::copy(program, &copy).with_context(|| program.display().to_string())?;
        }
        Ok(copy)
    };
    programs.iter().map(copy).collect()
}

/// Begins a part of the output, with the time.
fn heading(name: &str) -> String {
    format!("echo '== {name}'; cat /proc/uptime")
}

/// What runs in the machine first. Its standard output is cut at the lines that begin with `== `.
fn doctor(built: &[PathBuf]) -> String {
    let zdt = built
        .last()
        .map(|zdt| zdt.display().to_string())
        .unwrap_or_default();
    // As on a node: kube-proxy and the container runtime have loaded these.
    format!(
        "modprobe -a nf_conntrack nf_conntrack_netlink nf_tables veth bridge br_netfilter >/dev/null 2>&1\n{}\n{zdt} doctor -o json\n",
        heading("doctor")
    )
}

fn tested(built: &[PathBuf], none: bool) -> String {
    let tests = built.iter().zip(TESTS).filter(|_| !none);
    let lines = tests.map(|(binary, (name, wanted))| {
        format!(
            "{}\n(cd zdt-daemon && {} --test-threads 1 --show-output {})\n",
            heading(&format!("tests {name}")),
            binary.display(),
            wanted.join(" ")
        )
    });
    lines.collect()
}

fn performed(lab: &[PathBuf], scenarios: &[&str]) -> Result<String> {
    let mut lines = Vec::new();
    if let ([zdt, lab], false) = (lab, scenarios.is_empty()) {
        lines.extend(scenarios::copied(scenarios, "/tmp/scenarios")?);
        // Before 5.11 maps count against it. The lab's daemons have the capabilities of deploy/base; there
        // deploy/components/before-5.11 would give them the one that raises it.
        lines.push("ulimit -l unlimited".to_owned());
        lines.push(heading("score"));
        lines.push(format!(
            "{} score --zdt {} --scenarios /tmp/scenarios --jobs 1 --out /tmp/out --json",
            lab.display(),
            zdt.display()
        ));
        lines.push(UNEXPLAINED.to_owned());
    }
    lines.push(heading("end"));
    Ok(lines.join("\n") + "\n")
}
