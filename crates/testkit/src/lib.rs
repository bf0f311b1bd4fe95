//! What tests of the workspace are made of. Nothing of the product depends on it.
//!
//! - [`disk`]: a file system in memory that loses, tears, flips, fills up and fails on command.
//! - [`proxy`]: a TCP proxy that holds, drops, slows, resets and refuses on command.
//! - [`segment`]: reads and seals the files of a log, from their description alone.
//! - [`fuzz`]: the bodies of the fuzz targets, to be run without a fuzzer too.
//!
//! Unit tests inside a layer must not use it: they would see a second copy of their own crate.

pub mod disk;
pub mod fuzz;
pub mod proxy;
pub mod segment;
