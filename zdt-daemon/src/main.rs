//! The `zdt` binary: reads the command line and runs one verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    zdt_daemon::cli::main()
}
