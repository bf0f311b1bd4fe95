//! What a side of TLS is told: files, pins, policies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::TlsLoadError;
use super::pin::Pin;
use super::revocation::Revocation;

/// Fewer pins than this are a warning: with one alone, a lost key cannot be replaced without
/// touching every node first.
pub const PINS_MIN: usize = 2;

/// Most pins, inline and in the file together: each is compared in every handshake.
pub const PINS_MAX: usize = 256;

/// Most revocation lists: each is searched in every handshake.
pub const CRL_FILES_MAX: usize = 64;

/// How often files are read again, by default.
const POLL: Duration = Duration::from_secs(2);

/// How long changed files must stay as they are, by default.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Range of both.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60 * 60));

/// The side that dials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// PEM file with the authorities that certificates of servers must come from. Default: the
    /// public ones of the Mozilla programme, any of which can then vouch for a server.
    pub ca: Option<PathBuf>,
    /// PEM file with our own certificate, with its chain, leaf first. Needs [`Self::key`].
    /// Default: none is shown.
    pub certificate: Option<PathBuf>,
    /// PEM file with the key of [`Self::certificate`]: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: Option<PathBuf>,
    /// The public keys that servers may have, `sha256/BASE64` each, beside a valid certificate.
    /// Any of them will do. Default: none, and a valid certificate suffices. Name at least
    /// [`PINS_MIN`] for each server, the present key and the next one, and at most [`PINS_MAX`]:
    /// more work in a handshake, fewer ways out when a key is lost.
    pub pins: Vec<Pin>,
    /// File with more pins, one on each line, `#` before a comment; reloaded like certificates.
    pub pins_file: Option<PathBuf>,
    /// Certificates that were valid once.
    pub crls: Revocation,
    /// When changed files are noticed.
    pub reload: ReloadConfig,
}

/// The side that listens. Clients must show a certificate that [`Self::client_ca`] issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// PEM file with the certificate chain of this node, leaf first.
    pub certificate: PathBuf,
    /// PEM file with its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// PEM file with the authorities that issue client certificates.
    pub client_ca: PathBuf,
    /// Certificates that were valid once.
    #[serde(default)]
    pub crls: Revocation,
    /// When changed files are noticed.
    #[serde(default)]
    pub reload: ReloadConfig,
}

/// When changed files are noticed. Files are read, not watched: a watch misses atomic renames and
/// swapped links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadConfig {
    /// How often the files are read, 10 ms to 1 h. Default 2 s. Shorter notices a revocation
    /// sooner; longer reads less.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// How long changed files must stay as they are before they are tried, 10 ms to 1 h. Default
    /// 500 ms. Shorter may try a certificate before its key has arrived, which does no harm but is
    /// reported; longer delays every reload.
    #[serde(with = "humantime_serde")]
    pub debounce: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self { poll: POLL, debounce: DEBOUNCE }
    }
}

impl ReloadConfig {
    fn check(self) -> Result<(), TlsLoadError> {
        let (min, max) = INTERVAL;
        for (key, value) in [("tls.reload.poll", self.poll), ("tls.reload.debounce", self.debounce)]
        {
            if value < min || value > max {
                return Err(TlsLoadError::Interval { key, value, min, max });
            }
        }
        Ok(())
    }
}

impl ClientSettings {
    /// Makes relative paths start at `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        let paths = [&mut self.ca, &mut self.certificate, &mut self.key, &mut self.pins_file];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        self.crls.resolve(folder);
    }

    /// Checks what the types alone cannot. Files are not read.
    ///
    /// # Errors
    ///
    /// The first contradiction found, with its key.
    pub fn check(&self) -> Result<(), TlsLoadError> {
        let (certificate, key) = ("tls.certificate", "tls.key");
        let half = |present, absent| Err(TlsLoadError::HalfIdentity { present, absent });
        match (&self.certificate, &self.key) {
            (Some(_), None) => return half(certificate, key),
            (None, Some(_)) => return half(key, certificate),
            (Some(_), Some(_)) | (None, None) => {}
        }
        check_pins(self.pins.len())?;
        self.crls.check()?;
        self.reload.check()
    }
}

/// Bounds the pins of both sources together.
pub(super) const fn check_pins(count: usize) -> Result<(), TlsLoadError> {
    if count > PINS_MAX {
        return Err(TlsLoadError::TooMany { key: "tls.pins", count, max: PINS_MAX });
    }
    Ok(())
}

impl ServerSettings {
    /// Makes relative paths start at `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.certificate, &mut self.key, &mut self.client_ca] {
            *path = folder.join(&*path);
        }
        self.crls.resolve(folder);
    }

    /// Checks what the types alone cannot. Files are not read.
    ///
    /// # Errors
    ///
    /// The first contradiction found, with its key.
    pub fn check(&self) -> Result<(), TlsLoadError> {
        self.crls.check()?;
        self.reload.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_name_their_key() {
        let check = |settings: ClientSettings, part: &str| {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(part), "{part} in: {error}");
        };
        ClientSettings::default().check().unwrap();
        let path = Some(PathBuf::from("x"));
        check(ClientSettings { key: path.clone(), ..Default::default() }, "tls.certificate");
        check(ClientSettings { certificate: path, ..Default::default() }, "tls.key");
        let pins = vec![Pin::new([0; 32]); PINS_MAX + 1];
        check(ClientSettings { pins, ..Default::default() }, "tls.pins has 257");
        let reload = ReloadConfig { poll: Duration::ZERO, ..Default::default() };
        check(ClientSettings { reload, ..Default::default() }, "tls.reload.poll is 0ns");
        let crls =
            Revocation { files: vec![PathBuf::new(); CRL_FILES_MAX + 1], ..Default::default() };
        check(ClientSettings { crls, ..Default::default() }, "tls.crls.files has 65");
    }

    #[test]
    fn paths_start_at_the_folder() {
        let path = || Some(PathBuf::from("x"));
        let mut settings = ClientSettings { ca: path(), pins_file: path(), ..Default::default() };
        settings.crls.files = vec![PathBuf::from("x"), PathBuf::from("/y")];
        settings.resolve(Path::new("/etc"));
        assert_eq!(settings.ca.as_deref(), Some(Path::new("/etc/x")));
        assert_eq!(settings.pins_file.as_deref(), Some(Path::new("/etc/x")));
        assert_eq!(settings.crls.files, [Path::new("/etc/x"), Path::new("/y")]);
    }
}
