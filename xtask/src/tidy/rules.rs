//! Rules that look at one file.
//!
//! The forbidden words are put together from pieces, so that this file does not break its own rules.

use crate::text::{File, Finding};

/// One rule: which files it is about, and what it finds in them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) applies: fn(&File) -> bool,
    pub(crate) check: fn(&File, &mut Vec<Finding>),
}

const LINES_MAX: usize = 500;
const ARCHITECTURE_LINES_MAX: usize = 250;

const SOURCES: &[&str] = &[".rs", ".proto", ".py", ".sh"];

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule { applies: |file| file.name() == "mod.rs", check: no_mod_rs },
    Rule { applies: |file| file.is(&[".rs"]) && !file.is_recorded(), check: opens_with_docs },
    Rule { applies: |file| file.is(SOURCES) && !file.is_recorded(), check: not_too_long },
    Rule { applies: |file| file.path == "ARCHITECTURE.md", check: architecture_not_too_long },
    Rule { applies: |file| !file.is_recorded() && file.path != "LICENSE", check: clean_lines },
    Rule { applies: |file| !file.is_recorded(), check: nothing_unfinished },
    Rule { applies: |file| !file.is_recorded(), check: no_machine_paths },
    Rule { applies: |file| file.is(&[".rs"]), check: nothing_ignored },
    Rule { applies: |file| file.is(&[".toml"]), check: panics_are_contained },
];

fn no_mod_rs(file: &File, findings: &mut Vec<Finding>) {
    findings.push(file.finding(0, "modules are `foo.rs` and `foo/bar.rs`, never `mod.rs`"));
}

fn opens_with_docs(file: &File, findings: &mut Vec<Finding>) {
    if !file.text.starts_with("//!") {
        findings.push(file.finding(1, "opens with `//!`: what it is, what it is not"));
    }
}

fn not_too_long(file: &File, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        findings.push(file.finding(0, format!("{lines} lines; {LINES_MAX} at most: split it")));
    }
}

fn architecture_not_too_long(file: &File, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        let rule = format!("{lines} lines; {ARCHITECTURE_LINES_MAX} at most: say less");
        findings.push(file.finding(0, rule));
    }
}

fn clean_lines(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in (1..).zip(file.text.split('\n')) {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(file.finding(number, "trailing white space"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(file.finding(file.text.lines().count(), "no newline at the end"));
    }
}

fn nothing_unfinished(file: &File, findings: &mut Vec<Finding>) {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let calls = [concat!("to", "do!"), concat!("unimpl", "emented!")];
    for (number, line) in file.lines() {
        for word in words.iter().filter(|word| is_word_in(line, word)) {
            findings.push(file.finding(number, format!("{word}: finish it or file it")));
        }
        for call in calls.iter().filter(|call| line.contains(**call)) {
            findings.push(file.finding(number, format!("{call}: finish it")));
        }
    }
}

fn nothing_ignored(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if line.trim_start().starts_with(concat!("#[ign", "ore")) {
            findings.push(file.finding(number, "ignored tests rot: fix it or delete it"));
        }
    }
}

fn panics_are_contained(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        let squeezed: String = line.chars().filter(|letter| !letter.is_whitespace()).collect();
        if squeezed.starts_with(concat!("panic=", "\"abort\"")) {
            findings.push(file.finding(number, "supervisors contain panics: never abort"));
        }
    }
}

fn no_machine_paths(file: &File, findings: &mut Vec<Finding>) {
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for (number, line) in file.lines() {
        for path in paths.iter().filter(|path| starts_in(line, path)) {
            findings.push(file.finding(number, format!("a path of one machine: {path}")));
        }
    }
}

/// True when `word` stands in `line` with no letter or digit on either side.
fn is_word_in(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// True when `path` stands in `line` as the beginning of a path, not in the middle of one.
fn starts_in(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-}*".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    /// Runs every rule that applies; gives the lines of what they find.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let mut findings = Vec::new();
        for rule in RULES.iter().filter(|rule| (rule.applies)(&file)) {
            (rule.check)(&file, &mut findings);
        }
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_clean_file_breaks_no_rule() {
        assert_eq!(lines("crates/a/src/lib.rs", "//! What it is.\n\nfn f() {}\n"), NONE);
        assert_eq!(lines("docs/empty.md", ""), NONE);
    }

    #[test]
    fn modules_have_names_and_docs() {
        assert_eq!(lines("crates/a/src/b/mod.rs", "//! Docs.\n"), [0]);
        assert_eq!(lines("crates/a/src/main.rs", "fn main() {}\n"), [1]);
        assert_eq!(lines("crates/a/src/generated/b.rs", "fn f() {}\n"), NONE);
    }

    #[test]
    fn lines_are_clean_and_end() {
        assert_eq!(lines("a.toml", "a = 1 \nb = 2\t\nc = 3"), [1, 2, 3]);
        assert_eq!(lines("a.md", "one\r\n"), [1]);
        assert_eq!(lines("crates/a/testdata/x.txt", "a \nb"), NONE);
    }

    #[test]
    fn files_are_not_too_long() {
        let long = format!("//! Docs.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(lines("crates/a/src/lib.rs", &long), [0]);
        assert_eq!(lines("CHANGELOG.md", &long), NONE);
        assert_eq!(lines("ARCHITECTURE.md", &"\n".repeat(ARCHITECTURE_LINES_MAX)), NONE);
        assert_eq!(lines("ARCHITECTURE.md", &"\n".repeat(ARCHITECTURE_LINES_MAX + 1)), [0]);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        let word = concat!("TO", "DO");
        assert_eq!(lines("a.md", &format!("ok\n{word}: later\n")), [2]);
        assert_eq!(lines("a.md", &format!("a{word}\n{word}S\n")), NONE);
        assert_eq!(lines("a.rs", concat!("//! A\nto", "do!()\n")), [2]);
        assert_eq!(lines("a.rs", concat!("//! A\n  #[ign", "ore = \"slow\"]\n")), [2]);
        assert_eq!(lines("a.toml", concat!("panic = ", "\"abort\"\n")), [1]);
        assert_eq!(lines("a.md", concat!("never `panic = ", "\"abort\"`\n")), NONE);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let path = concat!("/ho", "me/");
        assert_eq!(lines("a.md", &format!("see {path}me\n\"{path}me\"\n")), [1, 2]);
        assert_eq!(lines("a.md", &format!("https://example.org{path}\n")), NONE);
    }
}
