//! `zdt gate`: waits for a rollout and says by its exit status whether it lost requests.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use super::{ERROR, FINDING, follow::Follow, read};
use crate::{
    clock,
    config::{self, GateFormat},
    report::{self, Answer, Gate, Looked, Style, Wanted},
};

/// Between two looks: the daemon answers 20 requests a second, whoever asks.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Nodes sum up when 10 s were quiet on them, which is not at the same time on all.
const SETTLE_MS: f64 = 20_000.0;

pub(super) fn gate(args: &config::Gate) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        namespace: args.of.namespace.clone(),
        workload: Some(args.of.workload.clone()),
        since_ms: args
            .since
            .map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
    };
    let gate = if args.files.is_empty() {
        let mut follow = Follow::new(&args.of.servers, &args.of.access, wanted, args.budget)?;
        wait(&mut follow, Some(args.timeout), |_| Ok(()))?
    } else {
        of_files(&args.files, &wanted, args.budget)
    };
    print(&gate, args)?;
    Ok(code(&gate))
}

/// 0 nothing lost, 1 something was, 2 it cannot be told.
pub(super) fn code(gate: &Gate) -> ExitCode {
    match gate.answer {
        Answer::Kept => ExitCode::SUCCESS,
        Answer::Lost => ExitCode::from(FINDING),
        Answer::Unknown | Answer::UnderWay => ExitCode::from(ERROR),
    }
}

/// Until the rollout is over on every node, or the time is. `each` is told how it stands.
pub(super) fn wait(
    follow: &mut Follow,
    timeout: Option<jiff::SignedDuration>,
    mut each: impl FnMut(&Gate) -> io::Result<()>,
) -> anyhow::Result<Gate> {
    let began = clock::now();
    let mut over_since = None;
    loop {
        follow.look();
        let mut gate = follow.gate();
        each(&gate)?;
        let now = clock::now();
        let seen = !gate.report.rollouts.is_empty() && gate.under_way.is_empty();
        if seen {
            let since = *over_since.get_or_insert(now);
            let complete = gate.report.rollouts.iter().all(|s| s.rollout.pods_elsewhere == 0);
            // One more look: what came with the summary is there.
            if now > since && (complete || now.ms_since(since) > SETTLE_MS) {
                return Ok(gate);
            }
        } else {
            over_since = None;
        }
        if timeout.is_some_and(|limit| now.ms_since(began) > limit.as_secs_f64() * 1000.0) {
            let open = if gate.under_way.is_empty() {
                "no rollout of it ended in that time; of one that was over before, --since tells"
            } else {
                "the rollout is not over"
            };
            gate.time_out(open);
            return Ok(gate);
        }
        thread::sleep(EVERY);
    }
}

/// From what was recorded. A record that ends before its rollout cannot tell.
fn of_files(files: &[std::path::PathBuf], wanted: &Wanted, budget: usize) -> Gate {
    let looked = files.iter().map(|file| {
        let mut outputs = Vec::new();
        let mut under_way = Vec::new();
        let read = read::outputs(file, &mut outputs, &mut under_way);
        under_way.retain(|u| {
            let gone =
                u.here.gone < u.here.ended || u.here.old > 0 || u.old_wanted.is_some_and(|old| old > 0);
            gone && wanted.workload(&u.namespace, Some(&u.workload))
        });
        let cut = (!under_way.is_empty()).then(|| "it ends before the rollout does".to_owned());
        Looked {
            from: file.display().to_string(),
            blind: read
                .err()
                .map(|e| format!("{e:#}"))
                .into_iter()
                .chain(cut)
                .collect(),
            under_way: Vec::new(),
            outputs,
        }
    });
    Gate::of(looked.collect(), wanted, budget)
}

fn print(gate: &Gate, args: &config::Gate) -> anyhow::Result<()> {
    let style = Style {
        colour: io::stdout().is_terminal(),
    };
    let text = match args.format {
        GateFormat::Text => report::gate_text(gate, style),
        GateFormat::Markdown => report::gate_markdown(gate, &args.of.workload),
        GateFormat::Junit => report::junit(gate, &args.of.workload),
        GateFormat::Json => report::json(&gate.json())? + "\n",
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
