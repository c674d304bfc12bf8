//! Records of the ring buffer, one behind the other: their lengths (2 bytes, little endian) and their bytes. What is decoded
//! is translated, among it heads of HTTP answers, and goes on as an input.
#![no_main]

#[path = "said.rs"]
mod said;

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use zdt_common::decode;
use zdt_parsers::{input::Input, kernel::Translator};
use zerocopy::IntoBytes as _;

fuzz_target!(|bytes: &[u8]| {
    let names = |name: &str| BTreeMap::from([(2, name.to_owned())]);
    let translator = Translator::new(names("NO_SOCKET"), names("NETFILTER_DROP"), 250);
    let mut inputs = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (record, behind) = behind.split_at(length);
        rest = behind;
        // The ring's records begin at such an address.
        let mut aligned = vec![0_u64; length.div_ceil(8) + 1];
        for (to, from) in aligned.iter_mut().zip(record.chunks(8)) {
            let mut word = [0; 8];
            word[..from.len()].copy_from_slice(from);
            *to = u64::from_ne_bytes(word);
        }
        let Some(Ok(event)) = aligned.as_bytes().get(..length).map(decode) else {
            continue;
        };
        let input = translator.input(&event);
        let line = serde_json::to_string(&input).unwrap_or_default();
        // As a record has it.
        assert!(serde_json::from_str::<Input>(&line).is_ok_and(|back| back == input));
        inputs.push(input);
    }
    said::all(&inputs);
});
