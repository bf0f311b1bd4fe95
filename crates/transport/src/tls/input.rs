//! What was read for one generation, each input under its configuration key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::error::TlsLoadError;
use super::pem::Pem;

/// Reads one file whole, with a bound of its own on the size: the seam to the file system.
pub type ReadFile = Arc<dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync>;

/// A file to read, and the configuration key that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
}

impl Wanted {
    pub(super) fn one(key: &'static str, path: &Path) -> Self {
        Self { key, path: path.to_owned() }
    }
}

/// One input: a file's content, or why there is none.
struct Input {
    key: &'static str,
    label: String,
    content: io::Result<Vec<u8>>,
}

/// Everything that one generation is built from.
pub struct Inputs(Vec<Input>);

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // T22: contents may be private keys.
        f.debug_list().entries(self.0.iter().map(|input| &input.label)).finish()
    }
}

/// Tells whether anything changed.
pub(super) type Fingerprint = [u8; 32];

impl Inputs {
    pub(super) fn read(wanted: &[Wanted], read: &ReadFile) -> Self {
        let input = |wanted: &Wanted| Input {
            key: wanted.key,
            label: format!("{} {}", wanted.key, wanted.path.display()),
            content: read(&wanted.path),
        };
        Self(wanted.iter().map(input).collect())
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut all = Sha256::new();
        for input in &self.0 {
            let content = match &input.content {
                Ok(content) => Sha256::digest(content),
                Err(error) => Sha256::digest(format!("unreadable: {}", error.kind())),
            };
            all.update(Sha256::digest(&input.label));
            all.update(content);
        }
        all.finalize().into()
    }

    /// Everything under a key.
    pub(super) fn all(&self, key: &str) -> Result<Vec<Pem<'_>>, TlsLoadError> {
        self.0.iter().filter(|input| input.key == key).map(Input::pem).collect()
    }

    /// The one input under a key, when it is configured.
    pub(super) fn one(&self, key: &str) -> Result<Option<Pem<'_>>, TlsLoadError> {
        self.0.iter().find(|input| input.key == key).map(Input::pem).transpose()
    }
}

impl Input {
    fn pem(&self) -> Result<Pem<'_>, TlsLoadError> {
        match &self.content {
            Ok(bytes) => Ok(Pem { label: &self.label, bytes }),
            Err(error) => Err(TlsLoadError::Unreadable {
                label: self.label.clone(),
                // `io::Error` cannot be cloned.
                source: io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}
