//! Turns what the YAML reader says into our words.
//!
//! serde reports through text alone, so its phrases are recognised here; a phrase that is not
//! keeps its text. Tests pin each of them, so a new wording shows there first.

use std::path::PathBuf;

use super::{ConfigError, Found, Problem};

/// Longest value that an error quotes, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Longest text of a library that an error repeats, in characters.
const MESSAGE_CHARS_MAX: usize = 240;

/// The phrases of serde, in front of which the reader may have put its own path.
const PHRASES: [&str; 7] = [
    "unknown field",
    "missing field",
    "duplicate field",
    "unknown variant",
    "invalid type",
    "invalid value",
    "invalid length",
];

impl ConfigError {
    pub(crate) fn from_yaml(error: &serde_path_to_error::Error<serde_yaml::Error>) -> Self {
        let location = error.inner().location().filter(|at| at.line() > 0);
        let path = error.path().to_string();
        let mut message = error.inner().to_string();
        if let Some(at) = &location {
            message =
                message.replace(&format!(" at line {} column {}", at.line(), at.column()), "");
        }
        let message = PHRASES
            .iter()
            .find_map(|phrase| message.find(phrase).and_then(|at| message.get(at..)))
            .or_else(|| {
                let (prefix, rest) = message.split_once(": ")?;
                path.starts_with(prefix).then_some(rest)
            })
            .unwrap_or(&message);
        let key = if path == "." || path == "?" { String::new() } else { path };
        let (key, problem) = read(key, message);
        // The reader knows where the mapping with the two begins, which is of no use.
        let location = location.filter(|_| problem != Problem::DuplicateKey);
        let line = location.map(|at| at.line());
        Self { file: PathBuf::new(), line, key, problem: Box::new(problem) }
    }

    /// Text that is not YAML at all.
    pub(crate) fn from_syntax(error: &serde_yaml::Error) -> Self {
        let problem = Problem::Syntax(short(&error.to_string(), MESSAGE_CHARS_MAX));
        Self { file: PathBuf::new(), line: None, key: String::new(), problem: Box::new(problem) }
    }
}

fn read(key: String, message: &str) -> (String, Problem) {
    let quoted: Vec<String> = message.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let (first, known) = match quoted.split_first() {
        Some((first, known)) => (first.clone(), known.to_vec()),
        None => (String::new(), Vec::new()),
    };
    if message.starts_with("unknown field") {
        let nearest = nearest(&first, &known, 3);
        (child(key, &first), Problem::UnknownKey { nearest, known })
    } else if message.starts_with("missing field") {
        (child(key, &first), Problem::MissingKey)
    } else if message.starts_with("duplicate field") {
        (child(key, &first), Problem::DuplicateKey)
    } else if message.starts_with("unknown variant") {
        let nearest = nearest(&first, &known, 5);
        (key, Problem::UnknownWord { found: short(&first, QUOTED_CHARS_MAX), nearest, known })
    } else if let Some((found, expected)) = mismatch(message) {
        let found = Found(short(&plain(found), QUOTED_CHARS_MAX));
        (key, Problem::WrongType { found, expected: plain(expected) })
    } else if message == "invalid socket address syntax" {
        let what = "not an address".to_owned();
        let cure = "give an IP address and a port, such as 127.0.0.1:9600".to_owned();
        (key, Problem::Invalid { what, cure })
    } else {
        let what = short(message, MESSAGE_CHARS_MAX);
        (key, Problem::Invalid { what, cure: "correct the value".to_owned() })
    }
}

/// `invalid type: FOUND, expected EXPECTED`.
fn mismatch(message: &str) -> Option<(&str, &str)> {
    let (kind, rest) = message.split_once(": ")?;
    matches!(kind, "invalid type" | "invalid value" | "invalid length")
        .then(|| rest.rsplit_once(", expected "))?
}

/// The words of serde for shapes, in the words of YAML.
fn plain(shape: &str) -> String {
    match shape {
        "unit value" => "nothing".to_owned(),
        "map" | "a map" => "a mapping".to_owned(),
        "sequence" | "a sequence" => "a list".to_owned(),
        "a duration" => "a duration such as 30s or 5min".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "path string" => "a path".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other => other.replace("integer `", "the number `").replace("string \"", "the text \""),
    }
}

/// The path of `name` under `key`, which may end with it already.
fn child(key: String, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else if key.rsplit('.').next() == Some(name) {
        key
    } else {
        format!("{key}.{name}")
    }
}

/// The known word that was probably meant: at most one letter in `letters_per_typo` is wrong, or
/// one in all.
fn nearest(unknown: &str, known: &[String], letters_per_typo: usize) -> Option<String> {
    known
        .iter()
        .map(|word| (strsim::osa_distance(&unknown.to_lowercase(), word), word))
        .filter(|(distance, word)| *distance <= (word.len() / letters_per_typo).max(1))
        .min()
        .map(|(_, word)| word.clone())
}

/// At most `chars_max` characters, and nothing of a key that was pasted (C3).
fn short(text: &str, chars_max: usize) -> String {
    if text.contains("-----BEGIN") {
        return "the content of a file".to_owned();
    }
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max).chain(['…']).collect()
}
