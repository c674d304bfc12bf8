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

#[test]
fn a_pipe_that_nobody_reads_drops_and_counts_and_never_blocks() {
    let (mut sink, printing, count) = queued();
    let (reader, writer) = io::pipe().unwrap();
    let writing = std::thread::spawn(move || printing.write(writer));
    // Four times what may wait. The pipe takes 64 KiB, and the one who writes to it hangs.
    let (size, all) = (64 << 10, 4 * MOST_BYTES as u64 / (64 << 10));
    for _ in 0..all {
        sink.deliver(&output(size)).unwrap();
        sink.flush().unwrap();
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
fn small_lines_are_bounded_in_number() {
    let (mut sink, printing, count) = queued();
    let more = 10;
    for _ in 0..MOST + more {
        sink.deliver(&output(1)).unwrap();
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
    sink.deliver(&output(1)).unwrap();
    let error = printing.write(writer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    sink.deliver(&output(1)).unwrap();
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
    sink.deliver(&output(1)).unwrap();
    drop(sink);
    let mut written = Vec::new();
    printing.write(&mut written).unwrap();
    assert!(written.ends_with(b"\n") && count.delivered.get() == 1);
}
