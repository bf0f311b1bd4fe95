//! Moves the wall clock of a process: preloaded, its `clock_gettime` stands before that of the C
//! library, and adds an offset that a test writes into a file meanwhile.
//!
//! Only `CLOCK_REALTIME` moves, as when somebody sets the clock of a machine: intervals stay true.
//! Not part of the product, which has no seam for this; and nothing links it, see
//! `alys_stream_tests::clock`.

#[cfg(target_os = "linux")]
mod linux;
