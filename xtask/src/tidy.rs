//! `cargo xtask tidy`: rules of the repository that no other tool knows.
//!
//! The rules are the table in `tidy/rules.rs`; each looks at one file. What only the repository as
//! a whole can break is checked here: files that must exist, links that must lead somewhere.

use crate::repo;
use crate::text::{self, File, Finding};

mod links;
mod rules;

/// A file that must be there, and what it must say.
struct Required {
    path: &'static str,
    says: &'static [&'static str],
}

const REQUIRED: &[Required] = &[
    Required { path: "README.md", says: &["cargo run --release -- demo", "cargo xtask ci"] },
    Required { path: "ARCHITECTURE.md", says: &["**Architecture invariant:**"] },
    Required { path: "CONTRIBUTING.md", says: &["cargo xtask ci"] },
    Required { path: "CHANGELOG.md", says: &[] },
    Required { path: "LICENSE", says: &["Apache License"] },
    Required { path: ".ci/run", says: &["exec cargo xtask ci"] },
];

/// Runs the command.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = text::files()?;
    let mut findings = check(&files);
    findings.extend(links::check(&files, |path| repo::path(path).exists()));
    text::report(findings)
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for rule in rules::RULES.iter().filter(|rule| (rule.applies)(file)) {
            (rule.check)(file, &mut findings);
        }
    }
    findings.extend(required(files));
    findings.extend(decisions(files));
    findings
}

fn required(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for required in REQUIRED {
        let Some(file) = files.iter().find(|file| file.path == required.path) else {
            let path = required.path.to_owned();
            findings.push(Finding { path, line: 0, rule: "must exist".to_owned() });
            continue;
        };
        for words in required.says.iter().filter(|words| !file.text.contains(**words)) {
            findings.push(file.finding(0, format!("must say `{words}`")));
        }
    }
    findings
}

/// Decisions are numbered from 0001 without gaps, so that a number names one for ever.
fn decisions(files: &[File]) -> Vec<Finding> {
    let pages = files.iter().filter(|file| file.path.starts_with("docs/decisions/"));
    let mut findings = Vec::new();
    for (number, page) in (1..).zip(pages) {
        let expected = format!("{number:04}-");
        if !page.name().starts_with(&expected) {
            let rule = format!("decisions are numbered without gaps: expected {expected}…");
            findings.push(page.finding(0, rule));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn what_must_exist_must_say_what_it_is_for() {
        let all: Vec<File> = REQUIRED
            .iter()
            .map(|required| file(required.path, &required.says.join("\n")))
            .collect();
        assert!(required(&all).is_empty());
        assert_eq!(required(&all[1..])[0].to_string(), "README.md: must exist");
        let empty: Vec<File> = all.iter().map(|each| file(&each.path, "")).collect();
        let shown: Vec<String> = required(&empty).iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"README.md: must say `cargo xtask ci`".to_owned()), "{shown:?}");
    }

    #[test]
    fn decisions_have_no_gaps_and_no_twins() {
        let check = |names: &[&str], findings: usize| {
            let pages: Vec<File> =
                names.iter().map(|name| file(&format!("docs/decisions/{name}"), "")).collect();
            assert_eq!(decisions(&pages).len(), findings, "{names:?}");
        };
        check(&["0001-one.md", "0002-two.md"], 0);
        check(&["0001-one.md", "0003-three.md"], 1);
        check(&["0001-one.md", "0001-uno.md"], 1);
        check(&["0001-one.md", "README.md"], 1);
    }
}
