//! Recovery from whatever bytes: the committed corpus of the fuzz target, and mutations of it.

use std::fs;
use std::path::Path;

use alys_stream_testkit::fuzz;

use super::*;

const MUTATIONS: u64 = 6000;

#[test]
fn the_corpus_and_its_mutations_are_opened_or_refused() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/recover");
    let mut paths: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (name, _) in fuzz::seeds() {
        assert!(dir.join(name).exists(), "{name} is in the repository");
    }
    let taken = corpus.iter().filter(|input| fuzz::recover(input)).count();
    let opened = AtomicU64::new(0);
    let cases = for_each(MUTATIONS, |seed| {
        let mut input = fuzz::mutated(&corpus, seed);
        // Half of the time the checksums hold.
        if let Some(flags) = input.first_mut() {
            *flags = u8::from(seed % 2 == 0);
        }
        let outcome = std::panic::catch_unwind(|| fuzz::recover(&input));
        let is_opened = outcome.unwrap_or_else(|_| panic!("mutation {seed}"));
        opened.fetch_add(u64::from(is_opened), Ordering::Relaxed);
    });
    let opened = opened.into_inner();
    println!("cases: recover {taken} opened of {}, {opened} of {cases} mutations", corpus.len());
    // Otherwise nothing is tried but the first look at an input, or nothing but the good case.
    let some = MUTATIONS / 100;
    assert!((some..MUTATIONS - some).contains(&opened), "{opened} opened");
}
