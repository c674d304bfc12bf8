//! A flood of refused connections while nobody reads the ring: every event is written or counted as lost, and what is read
//! afterwards is whole.

use std::net::{IpAddr, TcpStream};

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, Hook};
use zdt_daemon::{
    input::Observation,
    kernel::{Losses, Options},
};

use crate::{
    eyes::Eyes,
    world::{PORT, World},
};

/// Connections between two looks at the counters.
const BURST: u64 = 1_000;

/// The ring overflows long before.
const MOST_BURSTS: u64 = 200;

fn refused(world: &World, ip: IpAddr, times: u64) {
    world.in_client(move || {
        for _ in 0..times {
            drop(TcpStream::connect((ip, PORT)).unwrap_err());
        }
    });
}

fn of(counts: Vec<(Hook, u64)>, hook: Hook) -> u64 {
    counts
        .into_iter()
        .filter(|(h, _)| *h == hook)
        .map(|(_, n)| n)
        .sum()
}

/// Events of [`Hook::TcpSendReset`]: written, and lost since the last call.
fn counted(losses: &mut Losses) -> (u64, u64) {
    let written = losses.emitted().unwrap();
    let lost = losses.take().unwrap();
    (of(written, Hook::TcpSendReset), of(lost, Hook::TcpSendReset))
}

#[test]
fn a_flood_that_nobody_reads_is_counted_event_by_event() {
    let world = World::new();
    // One of its own: what it loses is nobody else's.
    let mut eyes = Eyes::with(&world, &Options::default());
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.watch(world.client4, ADDR_NODE);
    eyes.serve(world.pod4);
    let (mut asked, mut lost, mut written) = (0, 0, 0);
    while lost == 0 {
        assert!(
            asked < MOST_BURSTS * BURST,
            "the ring never filled: {written} written"
        );
        refused(&world, world.pod4, BURST);
        asked += BURST;
        (written, lost) = counted(eyes.losses());
    }
    assert_eq!(written + lost, asked, "{written} written, {lost} lost");

    // The reader comes back: it gets what was written, and what happens from now on.
    let mut read = 0;
    while read < written {
        let (_, seen) = eyes.next();
        read += u64::from(matches!(seen, Observation::ResetSent { .. }));
    }
    refused(&world, world.pod4, 1);
    eyes.until("reset behind the flood", |o| {
        matches!(o, Observation::ResetSent { .. })
    });
    assert_eq!(counted(eyes.losses()), (written + 1, 0));
}
