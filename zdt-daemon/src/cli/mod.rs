//! The verbs, one file each, and what they share: logging to stderr and exit codes (0 fine, 1 finding, 2 error).

mod access;
mod ask;
mod causes;
mod daemons;
mod doctor;
mod explain;
mod follow;
mod gate;
mod log;
mod propagation;
mod read;
mod record;
mod replay;
mod report;
mod run;
mod serve_gate;
mod version;
mod watch;

pub use ask::Server;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

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
    log::to_stderr(&cli.log);
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
        Verb::Version => version::version(),
    };
    match done {
        Ok(code) => code,
        // `zdt replay FILE | head` is no error.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves only the exit code to say it.
            let _ = io::stderr().write_all(log::last_words(&error).as_bytes());
            ExitCode::from(ERROR)
        }
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
