//! The committed corpora of the fuzz targets, and seeded mutations of them, through the functions
//! that a fuzzer feeds: what needs no nightly toolchain.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures are shown")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use alys_stream_testkit::fuzz::{self, Target};

/// Mutations of each corpus.
const MUTATIONS: u64 = 4000;

/// The target that is replayed beside the messaging layer, which may not know the others.
const RECOVER: &str = "recover";

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn replay(target: Target) {
    let dir = fuzz_dir().join("corpus").join(target.as_str());
    let mut paths: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut seeds = Vec::new();
    for (name, bytes) in target.seeds() {
        assert!(
            fs::read(dir.join(&name)).unwrap() == bytes,
            "{name} is in the repository as it is"
        );
        seeds.push(bytes);
    }
    let taken = corpus.iter().filter(|input| target.feed(input)).count();
    let mut mutations_taken = 0;
    for seed in 0..MUTATIONS {
        // Much of a corpus is refused, each at another place.
        let input = fuzz::mutated(if seed % 2 == 0 { &seeds } else { &corpus }, seed);
        let outcome = std::panic::catch_unwind(|| target.feed(&input));
        let is_taken = outcome.unwrap_or_else(|_| panic!("{} mutation {seed}", target.as_str()));
        mutations_taken += u64::from(is_taken);
    }
    let name = target.as_str();
    println!(
        "cases: {name} {taken} taken of {}, {mutations_taken} of {MUTATIONS} mutations",
        corpus.len()
    );
    // Otherwise nothing is tried but the first look at an input, or nothing but the good case.
    let some = MUTATIONS / 100;
    assert!((some..MUTATIONS - some).contains(&mutations_taken), "{name}: {mutations_taken} taken");
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

#[test]
fn credentials() {
    replay(Target::Credentials);
}

#[test]
fn filters() {
    replay(Target::Filters);
}

/// The names of what is in a folder, without their endings.
fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap())).collect()
}

#[test]
fn every_target_has_a_fuzzer_a_corpus_and_a_line_in_the_readme() {
    let targets = Target::ALL.map(Target::as_str).into_iter().chain([RECOVER]);
    let targets: BTreeSet<String> = targets.map(str::to_owned).collect();
    assert_eq!(names(&fuzz_dir().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz_dir().join("corpus")), targets);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    let readme = fs::read_to_string(fuzz_dir().join("README.md")).unwrap();
    for target in &targets {
        let binary = format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(manifest.contains(&binary), "{target} is built");
        assert!(readme.contains(&format!("\n| `{target}` | ")), "{target} is described");
    }
}
