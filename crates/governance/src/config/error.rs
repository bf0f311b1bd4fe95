//! One line for each mistake in a configuration: file, key, problem, cure.

use std::fmt::{self, Write as _};

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; empty when the configuration did not come from one.
    pub file: String,
    /// Path of the key, such as `federation.members[2].id`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub cure: String,
}

impl ConfigError {
    pub(crate) fn new(
        key: impl Into<String>,
        problem: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { file: String::new(), key: key.into(), problem: problem.into(), cure: cure.into() }
    }

    pub(crate) fn in_file(mut self, file: &str) -> Self {
        file.clone_into(&mut self.file);
        self
    }

    /// Turns the words of the YAML reader into ours.
    pub(super) fn from_yaml(error: &serde_path_to_error::Error<serde_yaml::Error>) -> Self {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let key = if path == "." { String::new() } else { path };
        if message.contains("unknown field") {
            let (unknown, known) =
                quoted.split_first().map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
            let cure = nearest(unknown, known).map_or_else(
                || format!("known keys are {}", known.join(", ")),
                |nearest| format!("did you mean `{nearest}`?"),
            );
            let key = if key.rsplit('.').next() == Some(unknown) || unknown.is_empty() {
                key
            } else if key.is_empty() {
                unknown.to_owned()
            } else {
                format!("{key}.{unknown}")
            };
            return Self::new(key, "unknown key", cure);
        }
        if message.contains("missing field") {
            let missing = quoted.first().copied().unwrap_or_default();
            let key = if key.is_empty() { missing.to_owned() } else { format!("{key}.{missing}") };
            return Self::new(key, "is missing", "add it");
        }
        Self::new(key, message, "correct the value")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for place in [&self.file, &self.key] {
            if !place.is_empty() {
                text.push_str(place);
                text.push_str(": ");
            }
        }
        for part in [&self.problem, "; ", &self.cure] {
            text.push_str(part);
        }
        // One line, whatever a file name, a key or a library says.
        text.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
    }
}

impl std::error::Error for ConfigError {}

/// The known key that `unknown` was probably meant to be.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|key| (distance(unknown, key), *key))
        .filter(|(distance, key)| *distance <= 1 + key.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// How many characters to insert, remove or replace to get from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
