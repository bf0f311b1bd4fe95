//! The text files of the repository, and what checks say about them.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::{repo, say};

/// A text file with its path from the root of the repository, `/` between the parts.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// The name without its folders.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// True for what `cargo xtask codegen` writes and for recorded test data: not ours to style.
    pub(crate) fn is_recorded(&self) -> bool {
        ["/generated/", "/testdata/", "/corpus/"].iter().any(|part| self.path.contains(part))
    }

    /// True when the name ends in one of `endings`.
    pub(crate) fn is(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    /// Numbered lines, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Something wrong at a line of this file; line 0 is the file as a whole.
    pub(crate) fn finding(&self, line: usize, rule: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule: rule.into() }
    }
}

/// A broken rule and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule } = self;
        if *line == 0 { write!(f, "{path}: {rule}") } else { write!(f, "{path}:{line}: {rule}") }
    }
}

/// Prints what was found and fails if that is anything.
pub(crate) fn report(mut findings: Vec<Finding>) -> anyhow::Result<()> {
    findings.sort();
    for finding in &findings {
        say::progress(finding);
    }
    ensure!(findings.is_empty(), "{} broken rules", findings.len());
    Ok(())
}

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "artifacts", "corpus", "node_modules", "__pycache__"];
/// Hidden folders that hold something of ours.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".config", ".github"];

/// Every text file of the repository, sorted by path. Files that are not UTF-8 are left out.
pub(crate) fn files() -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    collect(repo::root(), "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !HIDDEN.contains(&name.as_str());
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            files.push(File { path, text });
        }
    }
    Ok(())
}
