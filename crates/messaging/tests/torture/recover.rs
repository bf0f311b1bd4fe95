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
    assert!(corpus.len() >= 5, "the corpus is in the repository");
    for (path, input) in paths.iter().zip(&corpus) {
        println!("{}", path.file_name().unwrap().display());
        fuzz::recover(input);
    }
    let cases = for_each(MUTATIONS, |seed| {
        let input = fuzz::mutated(&corpus, seed);
        let outcome = std::panic::catch_unwind(|| fuzz::recover(&input));
        assert!(outcome.is_ok(), "mutation {seed}");
    });
    println!("cases: recover {} ({} of the corpus)", cases + corpus.len() as u64, corpus.len());
}
