//! See `alys_stream_testkit::fuzz::session`: `cargo +nightly fuzz run session`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _is_taken = alys_stream_testkit::fuzz::session(data);
});
