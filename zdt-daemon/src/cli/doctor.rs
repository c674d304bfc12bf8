//! `zdt doctor`: what this kernel and these permissions allow, and what each missing thing costs.

mod hooks;

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use self::hooks::{HookState, hook_states, hooks, lost_causes};
use super::{ERROR, FINDING};
use crate::{
    causes::say_costs,
    clock, config,
    kernel::{LoadError, Loaded, Options, btf::KernelFacts, cgroup_root},
    netfilter::{conntrack::Lookup, iptables::LegacyTables, nftables::Watcher},
    sink::Format,
};

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Fine,
    /// Works without it, and some causes cannot be named.
    Degraded,
    /// zdt cannot run without it.
    Missing,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    state: State,
    what: String,
    /// What was found; where something is missing, what to do and which causes it costs.
    found: String,
}

/// What `-o json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    checks: Vec<Check>,
    hooks: Vec<HookState>,
    /// Causes that need something of the kernel that is not here.
    lost: Vec<&'static str>,
}

fn check(state: State, what: &str, found: impl Into<String>) -> Check {
    Check {
        state,
        what: what.to_owned(),
        found: found.into(),
    }
}

pub(super) fn doctor(args: &config::Doctor) -> anyhow::Result<ExitCode> {
    let report = examine(&args.kernel.btf_path);
    let mut out = io::stdout().lock();
    match args.output.format {
        Format::Text => print(&report.checks, &mut out, io::stdout().is_terminal())?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
    }
    Ok(verdict(&report.checks))
}

fn verdict(checks: &[Check]) -> ExitCode {
    match checks.iter().map(|c| c.state).max() {
        Some(State::Missing) => ExitCode::from(ERROR),
        Some(State::Degraded) => ExitCode::from(FINDING),
        Some(State::Fine) | None => ExitCode::SUCCESS,
    }
}

fn print(checks: &[Check], out: &mut impl Write, colour: bool) -> io::Result<()> {
    let wide = checks.iter().map(|c| c.what.len()).max().unwrap_or(0);
    for c in checks {
        let (mark, code) = match c.state {
            State::Fine => ("ok      ", "32"),
            State::Degraded => ("degraded", "33"),
            State::Missing => ("missing ", "31"),
        };
        let mark = if colour {
            format!("\u{1b}[{code}m{mark}\u{1b}[0m")
        } else {
            mark.to_owned()
        };
        writeln!(out, "{mark}  {:<wide$}  {}", c.what, c.found)?;
    }
    let last = match checks.iter().map(|c| c.state).max() {
        Some(State::Missing) => "zdt cannot run here",
        Some(State::Degraded) => "zdt runs here, and cannot name every cause",
        Some(State::Fine) | None => "zdt runs here and can name every cause",
    };
    writeln!(out, "\n{last}")?;
    out.flush()
}

fn examine(btf: &Path) -> Report {
    let (mut states, mut lost) = (Vec::new(), Vec::new());
    let mut checks = vec![release(), privileges(), type_information(btf)];
    // Without type information nothing can be loaded, and the reason stands above.
    if checks
        .iter()
        .all(|c| c.state != State::Missing || c.what == "privileges")
    {
        let options = Options {
            btf: btf.to_owned(),
            ..Options::default()
        };
        match Loaded::load(&options).and_then(Loaded::attach) {
            Ok(kernel) => {
                checks.extend(hooks(&kernel));
                states = hook_states(&kernel);
                lost = lost_causes(&kernel);
            }
            Err(error) => checks.push(not_loaded(&error)),
        }
    }
    checks.push(conntrack());
    checks.push(rules("nf_tables rules", Watcher::open().map(drop)));
    checks.push(rules(
        "legacy rules",
        LegacyTables::open()
            .and_then(|mut t| t.read(clock::now(), None))
            .map(drop),
    ));
    checks.push(cgroups());
    checks.push(processes());
    Report {
        checks,
        hooks: states,
        lost,
    }
}

fn release() -> Check {
    match nix::sys::utsname::uname() {
        Ok(u) => check(
            State::Fine,
            "kernel",
            format!(
                "{} {}",
                u.sysname().to_string_lossy(),
                u.release().to_string_lossy()
            ),
        ),
        Err(error) => check(State::Degraded, "kernel", format!("uname(2) fails: {error}")),
    }
}

/// Root or not; what the kernel thinks of it shows when the hooks are loaded.
fn privileges() -> Check {
    if nix::unistd::geteuid().is_root() {
        check(State::Fine, "privileges", "root")
    } else {
        check(
            State::Fine,
            "privileges",
            "not root: CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed",
        )
    }
}

fn type_information(btf: &Path) -> Check {
    match KernelFacts::read(btf) {
        Ok(facts) if facts.absent.is_empty() => {
            check(State::Fine, "BTF", "every field that zdt reads is in it")
        }
        // They are missing together, and loading the module mends it.
        Ok(facts) if facts.absent.iter().all(|name| name.starts_with("ct_")) => check(
            State::Degraded,
            "BTF",
            "it has no struct nf_conn, nor has /sys/kernel/btf/nf_conntrack (the module may not be loaded yet: \
             `modprobe nf_conntrack`, then start zdt again); costs, of packets without a socket here, the client behind \
             a masquerade and the service that it dialled",
        ),
        Ok(facts) => check(
            State::Degraded,
            "BTF",
            format!(
                "this kernel has no {}: what depends on them is read as unknown",
                facts.absent.join(", ")
            ),
        ),
        Err(error) => check(State::Missing, "BTF", error.to_string()),
    }
}

fn not_loaded(error: &LoadError) -> Check {
    check(State::Missing, "eBPF", error.to_string())
}

fn rules(what: &'static str, read: Result<(), impl std::fmt::Display>) -> Check {
    match read {
        Ok(()) => check(State::Fine, what, "readable"),
        Err(error) => check(
            State::Degraded,
            what,
            format!(
                "{error}; costs the time that this node takes to let go of a pod, and the advice computed from it"
            ),
        ),
    }
}

fn conntrack() -> Check {
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let nobody = crate::input::Tuple {
        from: loopback,
        to: loopback,
    };
    match Lookup::open().and_then(|mut lookup| lookup.translation(crate::input::Protocol::Tcp, nobody)) {
        Ok(_) => check(State::Fine, "conntrack", "answers"),
        Err(error) => check(
            State::Degraded,
            "conntrack",
            format!(
                "{error}; costs every cause for connections of this node's clients through a Service whose pod does \
                 not answer: zdt does not learn which pod they were sent to"
            ),
        ),
    }
}

/// In a container its own cgroup is mounted at /sys/fs/cgroup as if it were the root, and the host's elsewhere.
fn cgroups() -> Check {
    match cgroup_root() {
        Ok(path) => check(
            State::Fine,
            "cgroup v2",
            format!("its root is mounted at {}", path.display()),
        ),
        Err(error) => check(
            State::Degraded,
            "cgroup v2",
            format!("{error}; {}", say_costs("cgroup_skb_egress")),
        ),
    }
}

/// PROC_PID_INIT_INO of include/linux/proc_ns.h: the first pid namespace has this inode on every kernel.
const HOST_PIDS: u64 = 0xEFFF_FFFC;

/// The listeners that were open before zdt are found over the open files of the processes that it sees.
fn processes() -> Check {
    let inode = std::fs::metadata("/proc/self/ns/pid").map(|m| std::os::unix::fs::MetadataExt::ino(&m));
    if inode.is_ok_and(|inode| inode == HOST_PIDS) {
        check(State::Fine, "pid namespace", "the host's")
    } else {
        check(
            State::Degraded,
            "pid namespace",
            "not the host's (hostPID: true); costs accept-queue-overflow for listeners that were open before zdt",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        causes::RULES,
        kernel::table::{DETAILS, PROGRAMS},
    };

    fn printed(checks: &[Check]) -> String {
        let mut out = Vec::new();
        print(checks, &mut out, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn report_ends_with_the_worst_that_was_found() {
        let mut checks = vec![check(State::Fine, "kernel", "x")];
        assert!(printed(&checks).ends_with("zdt runs here and can name every cause\n"));
        checks.push(check(
            State::Degraded,
            "hook tcp_receive_reset",
            "costs client-abort",
        ));
        assert!(printed(&checks).contains("degraded  hook tcp_receive_reset  costs client-abort\n"));
        checks.push(check(State::Missing, "BTF", "none"));
        assert!(printed(&checks).ends_with("zdt cannot run here\n"));
    }

    #[test]
    fn what_a_cause_needs_is_a_hook_or_a_detail_of_one() {
        let hooks = PROGRAMS.iter().map(|p| p.tracepoint);
        let known: Vec<_> = hooks.chain(DETAILS.iter().map(|d| d.name)).collect();
        for rule in RULES {
            for need in rule.needs {
                assert!(known.contains(need), "{} needs {need}", rule.name);
            }
        }
    }

    #[test]
    fn missing_hook_costs_the_causes_that_need_it() {
        assert!(say_costs("tcp_retransmit_skb").contains("pod-ip-gone"));
        assert!(say_costs("mark_victim").contains("oom-kill"));
        assert!(say_costs("tcp_send_reset/no_socket").contains("endpoint-removal-race"));
        assert!(say_costs("kfree_skb/reason").contains("policy-drop"));
        assert_eq!(say_costs("no_such_hook"), "costs evidence, no cause");
    }

    #[test]
    fn no_btf_is_found_before_anything_is_loaded() {
        let checks = examine(Path::new("/nonexistent/btf")).checks;
        let btf = checks.iter().find(|c| c.what == "BTF").unwrap();
        assert_eq!(btf.state, State::Missing);
        assert!(btf.found.contains("CONFIG_DEBUG_INFO_BTF=y"), "{}", btf.found);
        assert!(checks.iter().all(|c| !c.what.starts_with("hook")));
    }
}
