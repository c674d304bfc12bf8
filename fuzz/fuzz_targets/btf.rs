//! Type information of a kernel and of a module: the length of the first (4 bytes, little endian), both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zdt_parsers::kernel::walk;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let (kernel, module) = bytes.split_at(length.min(bytes.len()));
    walk(kernel, module);
});
