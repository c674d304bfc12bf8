//! A record: any file. What is whole of it is replayed.
#![no_main]

#[path = "said.rs"]
mod said;

use libfuzzer_sys::fuzz_target;
use zdt_parsers::{input::Input, record::Reader};

fuzz_target!(|file: &[u8]| {
    let reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(error) => return said::harmless(&error.to_string()),
    };
    let mut inputs: Vec<Input> = Vec::new();
    let mut errors = 0;
    for next in reader {
        match next {
            Ok(input) => inputs.push(input),
            Err(error) => {
                said::harmless(&error.to_string());
                errors += 1;
            }
        }
    }
    assert!(errors <= 1, "nothing is read behind an error");
    said::all(&inputs);
});
