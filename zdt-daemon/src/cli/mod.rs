//! The verbs, one file each, and what they share: logging to stderr and exit codes (0 fine, 1 finding, 2 error).

mod ask;
mod causes;
mod daemons;
mod doctor;
mod explain;
mod follow;
mod gate;
mod propagation;
mod read;
mod record;
mod replay;
mod report;
mod run;
mod serve_gate;
mod watch;

pub use ask::Server;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Cli, OutputFormat, Verb},
    report::Style,
    sink::Stdout,
};

/// Something was found: `doctor` saw a degradation, `propagation` a pod that stopped serving too early, `report` and
/// `gate` a failed request.
const FINDING: u8 = 1;
/// zdt could not do what it was asked.
const ERROR: u8 = 2;

/// Runs the verb of the command line.
pub fn main() -> ExitCode {
    let cli = Cli::read();
    log_to_stderr(&cli.log);
    let done = match &cli.verb {
        Verb::Run(args) => run::run(args),
        Verb::Record(args) => record::record(args),
        Verb::Replay(args) => replay::replay(args),
        Verb::Propagation(args) => propagation::propagation(args),
        Verb::Report(args) => report::report(args),
        Verb::Explain(args) => explain::explain(args),
        Verb::Gate(args) => gate::gate(args),
        Verb::ServeGate(args) => serve_gate::serve_gate(args),
        Verb::Watch(args) => watch::watch(args),
        Verb::Causes(args) => causes::causes(args),
        Verb::Doctor(args) => doctor::doctor(args),
    };
    match done {
        Ok(code) => code,
        // `zdt replay FILE | head` is no error.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves only the exit code to say it.
            let _ = writeln!(io::stderr(), "zdt: {error:#}");
            ExitCode::from(ERROR)
        }
    }
}

fn log_to_stderr(filter: &str) {
    let plain = EnvFilter::try_new(filter);
    let complaint = plain.as_ref().err().map(ToString::to_string);
    tracing_subscriber::fmt()
        .with_env_filter(plain.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .init();
    if let Some(complaint) = complaint {
        tracing::warn!("--log {filter:?} is not a filter ({complaint}); logging at info");
    }
}

/// Standard output is coloured only on a terminal.
fn style() -> Style {
    Style {
        colour: io::stdout().is_terminal(),
    }
}

/// Standard output, buffered: whoever reads it is waited for.
fn stdout(output: &OutputFormat) -> Stdout<io::BufWriter<io::Stdout>> {
    Stdout::new(io::BufWriter::new(io::stdout()), output.format, style())
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
