//! See `alys_stream_testkit::fuzz::decompression`: `cargo +nightly fuzz run decompression`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _is_taken = alys_stream_testkit::fuzz::decompression(data);
});
