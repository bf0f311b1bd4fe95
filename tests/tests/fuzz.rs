//! The committed corpora of the fuzz targets, and seeded mutations of them, through the functions
//! that a fuzzer feeds: what needs no nightly toolchain.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures are shown")]

use std::fs;
use std::path::Path;

use alys_stream_testkit::fuzz::{self, Target};

/// Mutations of each corpus.
const MUTATIONS: u64 = 4000;

fn replay(target: Target) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.as_str());
    let mut paths: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (name, _) in target.seeds() {
        assert!(dir.join(&name).exists(), "{name} is in the repository");
    }
    corpus.iter().for_each(|input| target.feed(input));
    for seed in 0..MUTATIONS {
        let input = fuzz::mutated(&corpus, seed);
        let outcome = std::panic::catch_unwind(|| target.feed(&input));
        assert!(outcome.is_ok(), "{} mutation {seed}", target.as_str());
    }
    println!("cases: {} {} and {MUTATIONS} mutations", target.as_str(), corpus.len());
}

#[test]
fn sessions() {
    replay(Target::Session);
}

#[test]
fn handshakes() {
    replay(Target::Handshake);
}

#[test]
fn compressed_batches() {
    replay(Target::Decompression);
}

#[test]
fn governance_messages() {
    replay(Target::Governance);
}

#[test]
fn configurations() {
    replay(Target::Configuration);
}
