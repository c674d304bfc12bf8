//! `zdt-lab`: the lab's programs. Containers run `app`, `client` and `pause`; people run `clean`.

use clap::{Parser, Subcommand};
use zdt_lab::{app, client};

#[derive(Parser)]
#[command(
    name = "zdt-lab",
    version,
    about = "A real cluster's network on one machine, without a cluster"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The test server
    App(app::Args),
    /// The load client: prints a summary, writes the ground truth
    Client(client::Args),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match cli.verb {
        Verb::App(args) => runtime.block_on(app::run(args)),
        Verb::Client(args) => {
            let summary = runtime.block_on(client::run(args))?;
            println!("{}", serde_json::to_string(&summary)?);
            Ok(())
        }
    }
}
