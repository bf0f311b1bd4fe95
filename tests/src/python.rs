//! Peers that nobody here wrote: Python programs over grpcio, their stubs made from the committed
//! contract by another generator.

use std::path::PathBuf;

/// The interpreter that has grpcio and grpcio-tools: `cargo xtask` installs it and says where.
///
/// # Panics
///
/// When it is not there: `cargo xtask ci --only tools`.
#[must_use]
pub fn interpreter() -> PathBuf {
    let installed = repository().join("target/tools/bin/python");
    let python = std::env::var_os("ALYS_STREAM_PYTHON").map_or(installed, PathBuf::from);
    assert!(python.exists(), "install the tools first: cargo xtask ci --only tools");
    python
}

/// A program under `tests/interop`.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    repository().join("tests/interop").join(name)
}

/// The folder that the contracts are in.
#[must_use]
pub fn protos() -> PathBuf {
    repository().join("proto")
}

fn repository() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}
