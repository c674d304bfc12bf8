//! Tests of `write` and `writing`: disks that are full or slow, and what the record says of it.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex},
    thread,
};

use super::*;
use crate::{input::PodUid, record::Reader};

/// A disk whose room the test sets; where there is none, a write fails or waits.
#[derive(Default)]
struct Disk {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    room: usize,
    /// Writes that find no room wait for it.
    stalls: bool,
    /// Writes that found none.
    refused: u64,
}

impl Disk {
    fn new(room: usize, stalls: bool) -> Self {
        let inner = Inner {
            room,
            stalls,
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    fn make_room(&self) {
        self.inner.lock().unwrap().room = usize::MAX;
        self.changed.notify_all();
    }

    /// Waits until a write has found no room.
    fn until_full(&self) {
        let inner = self.inner.lock().unwrap();
        drop(self.changed.wait_while(inner, |i| i.refused == 0).unwrap());
    }

    fn read(&self) -> Vec<Input> {
        let bytes = self.inner.lock().unwrap().bytes.clone();
        Reader::new(bytes.as_slice())
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

impl Write for &Disk {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock().unwrap();
        if inner.room == 0 {
            inner.refused += 1;
            self.changed.notify_all();
            if !inner.stalls {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner = self.changed.wait_while(inner, |i| i.room == 0).unwrap();
        }
        let n = from.len().min(inner.room);
        if inner.room < usize::MAX {
            inner.room -= n;
        }
        inner.bytes.extend_from_slice(&from[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone(at: u64) -> Input {
    Input {
        at: Ktime(at),
        what: What::PodGone {
            uid: PodUid("x".repeat(1000).into()),
        },
    }
}

fn mark(count: u64) -> What {
    What::Loss {
        source: "record".into(),
        count,
    }
}

/// More than may wait.
const MANY: u64 = 12_000;

#[test]
fn what_is_written_is_read_back() {
    let disk = Disk::new(usize::MAX, false);
    thread::scope(|threads| {
        let (mut recorder, writing) = Recorder::new(&disk).unwrap();
        threads.spawn(|| writing.write());
        for at in 0..200 {
            recorder.write(&gone(at));
        }
    });
    assert_eq!(disk.read(), (0..200).map(gone).collect::<Vec<_>>());
}

#[test]
fn what_is_settled_is_in_the_file() {
    let disk = Disk::new(usize::MAX, false);
    thread::scope(|threads| {
        let (mut recorder, writing) = Recorder::new(&disk).unwrap();
        threads.spawn(|| writing.write());
        for at in 0..200 {
            recorder.write(&gone(at));
            // Of this machine nothing is known: for once it may take its time.
            recorder.patience = Duration::from_mins(1);
            recorder.settle();
            assert_eq!(disk.read().len() as u64, at + 1);
        }
    });
}

/// Both kinds of a disk without room: what is lost is counted, marked, and all the rest is whole.
fn without_room(stalls: bool) {
    let disk = Disk::new(10_000, stalls);
    let mut lost = 0;
    thread::scope(|threads| {
        let (mut recorder, writing) = Recorder::new(&disk).unwrap();
        threads.spawn(|| writing.write());
        for at in 0..MANY {
            // Comes back although nobody writes: that it ends is what is tested.
            recorder.write(&gone(at));
            if at % 100 == 0 {
                recorder.flush();
                recorder.settle();
            }
        }
        disk.until_full();
        lost = recorder.lost_total();
        assert!(lost > 0 && lost < MANY, "{lost}");
        assert!(
            recorder.batch.len() + recorder.held.load(Relaxed) < MAX_WAITING_BYTES + BATCH_BYTES,
            "what waits is bounded"
        );
        disk.make_room();
        recorder.patience = Duration::from_mins(1);
        // Until all of it is written, by the writer's own word.
        while recorder.held.load(Relaxed) > 0 {
            thread::yield_now();
        }
        recorder.write(&gone(MANY));
    });
    let back = disk.read();
    let places: Vec<usize> = (0..back.len()).filter(|i| back[*i].what == mark(lost)).collect();
    assert_eq!(places.len(), 1, "one mark, with the whole count");
    let kept = MANY - lost;
    assert_eq!(places[0] as u64, kept, "where the hole is");
    assert_eq!(back[places[0] + 1..], [gone(MANY)]);
    assert_eq!(
        back[..places[0]],
        (0..kept).map(gone).collect::<Vec<_>>(),
        "all before it is whole"
    );
}

#[test]
fn a_full_disk_is_counted_and_marked_and_the_rest_stays_readable() {
    without_room(false);
}

#[test]
fn a_writer_that_stalls_holds_up_nothing_and_the_hole_is_marked() {
    without_room(true);
}

#[test]
fn a_record_that_ends_in_a_hole_says_so() {
    let disk = Disk::new(10_000, true);
    let mut lost = 0;
    thread::scope(|threads| {
        let (mut recorder, writing) = Recorder::new(&disk).unwrap();
        threads.spawn(|| writing.write());
        for at in 0..MANY {
            recorder.write(&gone(at));
        }
        lost = recorder.lost_total();
        assert!(lost > 0);
        drop(recorder);
        disk.make_room();
    });
    let back = disk.read();
    assert_eq!(back.len() as u64, MANY - lost + 1);
    let last = back.last().unwrap();
    assert_eq!((last.at, &last.what), (Ktime(MANY - 1), &mark(lost)));
}

#[test]
fn a_disk_that_is_full_from_the_start_is_an_error() {
    assert!(Recorder::new(&Disk::default()).is_err());
}
