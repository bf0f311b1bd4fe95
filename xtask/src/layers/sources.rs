//! Holds the sources against the seams of the table.
//!
//! Reads lines, not syntax: comments and unit tests are left out, and a `use` that is split over
//! lines is seen by its first line.

use crate::text::{File, Finding};

use super::table::{SEAMS, Seam};

/// Every use of a word outside of where it belongs.
pub(crate) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_product(file)) {
        for seam in SEAMS.iter().filter(|seam| concerns(seam, &file.path)) {
            for (number, line) in file.lines().take(product_lines(&file.text)) {
                if seam.words.iter().any(|word| names(line, word)) {
                    findings.push(file.finding(number, seam.rule));
                }
            }
        }
    }
    findings
}

/// Sources of crates, without files of unit tests.
fn is_product(file: &File) -> bool {
    let is_test = file.name() == "tests.rs"
        || file.path.ends_with("_tests.rs")
        || file.path.contains("/tests/");
    file.path.starts_with("crates/") && file.path.contains("/src/") && file.is(&[".rs"]) && !is_test
}

fn concerns(seam: &Seam, path: &str) -> bool {
    let begins =
        |beginnings: &[&str]| beginnings.iter().any(|beginning| path.starts_with(beginning));
    begins(seam.within) && !begins(seam.allowed)
}

/// How many lines come before the unit tests.
fn product_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    lines.windows(2).position(is_tests).unwrap_or(lines.len())
}

/// True when `line` names the path `word` in code.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let plain = code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + word.len()..).unwrap_or_default();
        let begins = !before.is_some_and(|letter| is_part(letter) || letter == '.');
        // `ractor` alone may be a word of ours; `ractor::` and `use ractor;` are not.
        let ends =
            after.starts_with("::") || (code.contains("use ") && !after.starts_with(is_part));
        begins && ends
    });
    plain || in_braces(code, word)
}

/// True for `use std::{fs, io}` and the word `std::fs`.
fn in_braces(code: &str, word: &str) -> bool {
    let Some((parent, child)) = word.split_once("::") else {
        return false;
    };
    let Some((_, list)) = code.split_once(&format!("use {parent}::{{")) else {
        return false;
    };
    list.split([',', '}', '{']).any(|item| item.trim().split("::").next() == Some(child))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&[file]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn tonic_stays_in_the_grpc_drivers() {
        let text =
            "//! Knows nothing of tonic::Status.\nuse tonic::Status;\nfn f(_: tonic::Code) {}\n";
        assert_eq!(lines("crates/protocol/src/codec.rs", text), [2, 3]);
        assert_eq!(lines("crates/transport/src/session.rs", text), [2, 3]);
        assert_eq!(lines("crates/node/src/demo.rs", text), [2, 3]);
        for path in [
            "crates/transport/src/grpc.rs",
            "crates/transport/src/grpc/dial.rs",
            "crates/governance/src/server.rs",
            "crates/node/src/submission/api.rs",
            "tests/tests/interop.rs",
        ] {
            assert_eq!(lines(path, text), NONE, "{path}");
        }
    }

    #[test]
    fn files_are_touched_by_storage_alone() {
        let text =
            "use std::fs;\nuse std::{fs::File, io};\nlet x = tokio::fs::read(p);\nuse std::fmt;\n";
        assert_eq!(lines("crates/messaging/src/buffer.rs", text), [1, 2, 3]);
        assert_eq!(lines("crates/messaging/src/storage.rs", text), NONE);
        assert_eq!(lines("crates/messaging/src/storage/file.rs", text), NONE);
        assert_eq!(lines("crates/config/src/file.rs", text), NONE);
    }

    #[test]
    fn ractor_stays_in_actor_and_node() {
        let text = "use ractor::Actor;\nlet contractor = 1;\nlet ractor = contractor;\n";
        assert_eq!(lines("crates/alys-stream/src/lib.rs", text), [1]);
        assert_eq!(lines("crates/actor/src/lib.rs", text), NONE);
    }

    #[test]
    fn comments_and_unit_tests_are_left_out() {
        let text = "// use std::fs;\nfn f() {} // std::fs::read\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(lines("crates/protocol/src/lib.rs", text), NONE);
        assert_eq!(lines("crates/protocol/src/codec/tests.rs", "use std::fs;\n"), NONE);
    }
}
