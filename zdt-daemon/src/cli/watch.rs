//! `zdt watch`: a rollout while it is under way, then its report.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use super::{
    follow::Follow,
    gate::{code, wait},
};
use crate::{
    clock, config,
    report::{Gate, Style, Wanted, escape, gate_text},
};

pub(super) fn watch(args: &config::Watch) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        namespace: args.of.namespace.clone(),
        workload: Some(args.of.workload.clone()),
        since_ms: None,
    };
    let mut follow = Follow::new(&args.of.servers, &args.of.access, wanted, 0)?;
    let style = Style {
        colour: io::stdout().is_terminal(),
    };
    let began = clock::now();
    let mut before = String::new();
    let gate = wait(&mut follow, None, |gate| {
        let line = progress(gate);
        if line == before {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let seconds = clock::now().ms_since(began) / 1000.0;
        writeln!(out, "{seconds:>6.1} s  {}", escape(&line))?;
        out.flush()?;
        before = line;
        Ok(())
    })?;
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", gate_text(&gate, style))?;
    out.flush()?;
    Ok(code(&gate))
}

/// How it stands, in one line.
fn progress(gate: &Gate) -> String {
    let mut line = String::new();
    if gate.under_way.is_empty() {
        let over = !gate.report.rollouts.is_empty();
        line.push_str(if over { "over" } else { "waiting for a rollout" });
    } else {
        let sum = |of: fn(&crate::verdict::PodCount) -> usize| -> usize {
            gate.under_way.iter().map(|u| of(&u.here)).sum()
        };
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "old pods {} ({} ending, {} gone)   new pods {} ({} Ready)   failed {}",
            sum(|p| p.old),
            sum(|p| p.ended.saturating_sub(p.gone)),
            sum(|p| p.gone),
            sum(|p| p.new),
            sum(|p| p.new_ready),
            gate.failed
        );
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for (cause, count) in gate.under_way.iter().flat_map(|u| &u.causes) {
            *causes.entry(cause).or_default() += count;
        }
        for (cause, count) in causes {
            let _ = write!(line, "   {count} {cause}");
        }
    }
    let nodes: Vec<&String> = gate
        .unknown
        .iter()
        .filter(|u| !u.starts_with("no rollout of"))
        .collect();
    for why in nodes {
        let _ = write!(line, "   [{why}]");
    }
    line
}
