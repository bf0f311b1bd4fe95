//! See `alys_stream_testkit::fuzz::credentials`: `cargo +nightly fuzz run credentials`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| alys_stream_testkit::fuzz::credentials(data));
