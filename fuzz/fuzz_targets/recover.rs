//! Recovery from whatever bytes lie in a log directory: `cargo +nightly fuzz run recover`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| alys_stream_testkit::fuzz::recover(data));
