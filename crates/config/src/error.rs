//! Why there is no configuration, in one line: `FILE:LINE: KEY: what is wrong; the cure`.

mod file;
mod tls;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use self::file::{not_text, unreadable};
pub(crate) use self::tls::tls_error;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// The line in it, when the reader knows it.
    pub line: Option<usize>,
    /// The path of the key, such as `endpoints[2].url`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub problem: Box<Problem>,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A key that nobody reads.
    UnknownKey {
        /// The known key that was probably meant.
        nearest: Option<String>,
        /// All keys that could stand there.
        known: Vec<String>,
    },
    /// A key that has to be there.
    MissingKey,
    /// A key that is there twice.
    DuplicateKey,
    /// A value of another type.
    WrongType {
        /// What is there.
        found: Found,
        /// What should be there.
        expected: String,
    },
    /// A word that is none of the known ones.
    UnknownWord {
        /// What is there.
        found: String,
        /// The known word that was probably meant.
        nearest: Option<String>,
        /// All words that could stand there.
        known: Vec<String>,
    },
    /// Text that is not YAML.
    Syntax(String),
    /// A value that is out of range, contradicts another one, or names something unusable.
    Invalid {
        /// What is wrong.
        what: String,
        /// What to do.
        cure: String,
    },
    /// A folder is wanted where something else stands: the file system is wrong, not the text.
    NotAFolder,
}

/// What stands in a place where something else was expected, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(pub(crate) String);

impl ConfigError {
    pub(crate) fn invalid(
        key: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let problem = Box::new(Problem::Invalid { what: what.into(), cure: cure.into() });
        Self { file: PathBuf::new(), line: None, key: key.into(), problem }
    }

    pub(crate) fn not_a_folder(key: impl Into<String>) -> Self {
        let problem = Box::new(Problem::NotAFolder);
        Self { file: PathBuf::new(), line: None, key: key.into(), problem }
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file = file.to_owned();
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.file.display().to_string();
        if let Some(line) = self.line {
            text.push_str(&format!(":{line}"));
        }
        for part in [self.key.clone(), self.problem.to_string()] {
            if !part.is_empty() {
                let separator = if text.is_empty() { "" } else { ": " };
                text.push_str(separator);
                text.push_str(&part);
            }
        }
        // One line, whatever a file name, a key or a library says.
        text.chars().try_for_each(|c| {
            let c = if c.is_control() { ' ' } else { c };
            fmt::Write::write_char(f, c)
        })
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { nearest, known } => {
                f.write_str("unknown key; ")?;
                cure_unknown(f, nearest.as_deref(), known, "keys")
            }
            Self::MissingKey => f.write_str("missing; add it"),
            Self::DuplicateKey => f.write_str("given twice; remove one of the two"),
            Self::WrongType { found, expected } => {
                write!(f, "expected {expected}, found {}; correct the value", found.0)
            }
            Self::UnknownWord { found, nearest, known } => {
                write!(f, "{found:?} is not known here; ")?;
                cure_unknown(f, nearest.as_deref(), known, "values")
            }
            Self::Syntax(what) => {
                write!(f, "not readable as YAML ({what}); correct the text there")
            }
            Self::NotAFolder => f.write_str(
                "a file stands where this folder should be; name a folder, it is made when missing",
            ),
            Self::Invalid { what, cure } => write!(f, "{what}; {cure}"),
        }
    }
}

fn cure_unknown(
    f: &mut fmt::Formatter<'_>,
    nearest: Option<&str>,
    known: &[String],
    noun: &str,
) -> fmt::Result {
    match nearest {
        Some(nearest) => write!(f, "did you mean `{nearest}`?"),
        None if known.is_empty() => f.write_str("remove it"),
        None => write!(f, "known {noun} are {}", known.join(", ")),
    }
}
