//! Every future of a `StreamHandle`, dropped at every point where it waits: what its documentation
//! promises then, holds.
//!
//! Each test takes a call, polls it a number of times, from none to as many as it needs, drops it,
//! and looks. What has to hold afterwards: nothing is half accepted, the same again stores nothing
//! twice, places are given back, and everything still works.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "how often each call was dropped")]

mod ending;
mod following;
mod letters;
mod polled;
mod rig;
mod sending;
mod waiting;
