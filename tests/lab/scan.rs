//! A port scanner, as background noise: connects to ports that nobody serves, and gives up soon.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// No service, no server and no node port of the lab is among them.
const PORTS: std::ops::Range<u16> = 2000..3000;

/// Below the second retransmit of a SYN.
const GIVES_UP_AFTER: Duration = Duration::from_millis(1500);

/// Switches of the scanner.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whose ports
    #[arg(long = "target", required = true)]
    pub targets: Vec<IpAddr>,
    /// SYNs a second
    #[arg(long, default_value_t = 2.0)]
    pub rate: f64,
    /// How long
    #[arg(long)]
    pub seconds: f64,
    /// Decides targets and ports
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Scans for `--seconds`.
pub async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(
        args.rate > 0.0 && args.rate <= 50.0,
        "--rate must be above 0 and at most 50"
    );
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut tries = JoinSet::new();
    while ticks.tick().await < end {
        let ip = args.targets.get(random.usize(..args.targets.len()));
        let Some(ip) = ip else { break };
        let addr = SocketAddr::new(*ip, random.u16(PORTS));
        // Refused or silent: a scanner takes either.
        tries.spawn(async move { drop(timeout(GIVES_UP_AFTER, TcpStream::connect(addr)).await) });
        while tries.try_join_next().is_some() {}
    }
    while tries.join_next().await.is_some() {}
    Ok(())
}
