//! A reader of standard output that is slow, absent or gone.

use std::io::{self, BufRead as _, BufReader};

use super::*;
use crate::{
    input::{Ktime, Wall},
    report::Style,
    sink::{Format, metrics::ExportCounts},
    verdict::NotSeen,
};

/// A line of about `size` bytes.
fn output(size: usize) -> Output {
    Output::NotSeen(Box::new(NotSeen {
        node: "n1".into(),
        of: vec!["x".repeat(size)],
        from: Ktime(1),
        to: Ktime(2),
        wall: Wall(3),
    }))
}

fn queued() -> (Queued, Printing, ExportCount) {
    let count = ExportCounts::new().unwrap().of("stdout");
    let text = Stdout::new(Vec::new(), Format::Json, Style { colour: false });
    let (sink, printing) = Queued::new(text, count.clone());
    (sink, printing, count)
}

fn said(sink: &mut Queued, size: usize) {
    sink.deliver(&output(size)).unwrap();
    sink.flush().unwrap();
}

#[test]
fn what_is_said_together_is_handed_over_together() {
    let (mut sink, mut printing, count) = queued();
    for _ in 0..3 {
        sink.deliver(&output(1)).unwrap();
    }
    assert!(printing.from.try_recv().is_err(), "not said yet");
    sink.flush().unwrap();
    let lines = printing.from.try_recv().unwrap();
    assert_eq!((lines.count, lines.text.lines().count()), (3, 3));
    // Much is not held back.
    sink.deliver(&output(2 * CHUNK)).unwrap();
    assert_eq!(printing.from.try_recv().unwrap().count, 1);
    sink.flush().unwrap();
    assert!(printing.from.try_recv().is_err() && count.dropped.get() == 0);
}

#[test]
fn a_pipe_that_nobody_reads_drops_and_counts_and_never_blocks() {
    let (mut sink, printing, count) = queued();
    let (reader, writer) = io::pipe().unwrap();
    let writing = std::thread::spawn(move || printing.write(writer));
    // Four times what may wait. The pipe takes 64 KiB, and the one who writes to it hangs.
    let (size, all) = (64 << 10, 4 * MOST_BYTES as u64 / (64 << 10));
    for _ in 0..all {
        said(&mut sink, size);
    }
    let dropped = count.dropped.get();
    assert!(dropped >= all / 2, "{dropped} of {all}");
    drop(sink);
    // Somebody reads after all: whole lines, as many as were not dropped.
    let mut lines = 0;
    for line in BufReader::new(reader).lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["kind"], "not-seen");
        lines += 1;
    }
    writing.join().unwrap().unwrap();
    assert_eq!((lines, count.delivered.get()), (all - dropped, all - dropped));
}

#[test]
fn flushes_are_bounded_in_number() {
    let (mut sink, printing, count) = queued();
    let more = 10;
    for _ in 0..MOST + more {
        said(&mut sink, 1);
    }
    assert_eq!(count.dropped.get(), more as u64);
    drop(sink);
    printing.write(io::sink()).unwrap();
    assert_eq!(count.delivered.get(), MOST as u64);
}

#[test]
fn a_reader_that_is_gone_ends_the_writing_as_before() {
    let (mut sink, printing, count) = queued();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    said(&mut sink, 1);
    let error = printing.write(writer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    said(&mut sink, 1);
    assert_eq!(
        (count.delivered.get(), count.dropped.get()),
        (0, 1),
        "what comes then is counted"
    );
}

#[test]
fn text_goes_the_same_way() {
    let count = ExportCounts::new().unwrap().of("stdout");
    let text = Stdout::new(Vec::new(), Format::Text, Style { colour: false });
    let (mut sink, printing) = Queued::new(text, count.clone());
    said(&mut sink, 1);
    drop(sink);
    let mut written = Vec::new();
    printing.write(&mut written).unwrap();
    assert!(written.ends_with(b"\n") && count.delivered.get() == 1);
}
