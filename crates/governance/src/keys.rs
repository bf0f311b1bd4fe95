//! The secret keys of the federation members that this node holds.
//!
//! A key file has one key per line, 64 hexadecimal digits or WIF, optionally preceded by
//! `member id:`; empty lines and lines that start with `#` are skipped.
//!
//! Invariants:
//! - G1: a secret never reaches a log, an error or `Debug` output, and is wiped when dropped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use alys_stream_protocol::federation::{Federation, FederationError, Member, ScriptKind};
use bitcoin::secp256k1::rand::rngs::OsRng;
use bitcoin::secp256k1::{Keypair, PublicKey, Secp256k1, SecretKey};
use secrecy::ExposeSecret as _;

use crate::files;

/// Permission bits that make a key file readable by everyone.
const MODE_OTHERS: u32 = 0o007;

/// One member's key.
pub struct MemberKey {
    /// The member's name in the federation.
    pub member_id: String,
    keypair: Keypair,
}

impl MemberKey {
    /// The key itself.
    #[must_use]
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.keypair.public_key()
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberKey")
            .field("member_id", &self.member_id)
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

impl Drop for MemberKey {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

/// Reads the keys of a file and finds their members.
///
/// Without a federation the keys themselves become one, any of which may sign: that is how a node
/// runs alone on a developer's machine.
///
/// # Errors
///
/// When the file is missing and may not be generated, is open to everyone, holds something that is
/// no key, or a key that belongs to no member.
pub fn load(
    path: &Path,
    generate: bool,
    node_id: &str,
    federation: Option<Federation>,
) -> Result<(Federation, Vec<MemberKey>), KeysError> {
    let at = |problem| KeysError { path: path.to_owned(), problem };
    let mode = match files::mode(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && generate => {
            self::generate(path, node_id).map_err(at)?
        }
        mode => mode.map_err(|error| at(Problem::Unreadable(error)))?,
    };
    if mode & MODE_OTHERS != 0 {
        return Err(at(Problem::Open { mode }));
    }
    let text = files::read_secret(path).map_err(|error| at(Problem::Unreadable(error)))?;
    let keys = parse(text.expose_secret(), node_id).map_err(at)?;
    let federation = match federation {
        Some(federation) => federation,
        None => alone(&keys).map_err(|error| at(Problem::Federation(error)))?,
    };
    keys.into_iter()
        .map(|key| with_member(key, &federation))
        .collect::<Result<_, _>>()
        .map(|keys| (federation, keys))
        .map_err(at)
}

/// Writes a new key for `node_id`. Returns the mode of the file.
fn generate(path: &Path, node_id: &str) -> Result<u32, Problem> {
    let secp = Secp256k1::new();
    let mut key = Keypair::new(&secp, &mut OsRng);
    let text = secrecy::SecretString::from(format!("{node_id}: {}\n", key.display_secret()));
    let public_key = key.public_key();
    key.non_secure_erase();
    files::write_private(path, text.expose_secret()).map_err(Problem::Unwritable)?;
    tracing::info!(path = %path.display(), %public_key, "member key generated");
    files::mode(path).map_err(Problem::Unreadable)
}

fn parse(text: &str, node_id: &str) -> Result<Vec<MemberKey>, Problem> {
    let secp = Secp256k1::new();
    let mut keys = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line == "---" {
            continue;
        }
        let (name, value) =
            line.rsplit_once(':').map_or((None, line), |(name, value)| (Some(name), value));
        let value = value.trim().trim_matches(['"', '\'']);
        let mut secret = parse_secret(value).ok_or(Problem::NotAKey { line: place + 1 })?;
        let keypair = Keypair::from_secret_key(&secp, &secret);
        secret.non_secure_erase();
        let member_id = name.map_or_else(
            || {
                if keys.is_empty() {
                    node_id.to_owned()
                } else {
                    format!("{node_id}-{}", keys.len() + 1)
                }
            },
            |name| name.trim().trim_start_matches("- ").trim_matches(['"', '\'']).to_owned(),
        );
        keys.push(MemberKey { member_id, keypair });
    }
    if keys.is_empty() {
        return Err(Problem::Empty);
    }
    Ok(keys)
}

fn parse_secret(value: &str) -> Option<SecretKey> {
    value
        .parse::<SecretKey>()
        .ok()
        .or_else(|| bitcoin::PrivateKey::from_wif(value).ok().map(|key| key.inner))
}

/// A federation of these keys, any of which may sign.
fn alone(keys: &[MemberKey]) -> Result<Federation, FederationError> {
    let members = keys
        .iter()
        .map(|key| Member { id: key.member_id.clone(), public_key: key.public_key(), weight: 1 })
        .collect();
    Federation::try_new(1, members, ScriptKind::P2wsh)
}

/// Gives a key the name that the federation has for it.
fn with_member(mut key: MemberKey, federation: &Federation) -> Result<MemberKey, Problem> {
    let public_key = key.public_key();
    match federation.members().iter().find(|member| member.public_key == public_key) {
        Some(member) => {
            key.member_id.clone_from(&member.id);
            Ok(key)
        }
        None => Err(Problem::NotAMember { public_key }),
    }
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct KeysError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error(
        "the key file cannot be read ({0}); correct `keys`, or set `generate_keys: true` to create it"
    )]
    Unreadable(#[source] io::Error),
    /// It cannot be created.
    #[error("the key file cannot be created ({0}); make its folder writable")]
    Unwritable(#[source] io::Error),
    /// Everyone may read it.
    #[error("the key file is open to everyone (mode {mode:03o}); run `chmod 600` on it")]
    Open {
        /// Its permission bits.
        mode: u32,
    },
    /// A line is no key.
    #[error(
        "line {line} is not a secret key; use 64 hexadecimal digits or WIF, optionally after `member id:`"
    )]
    NotAKey {
        /// Its number, from 1.
        line: usize,
    },
    /// It holds no key.
    #[error("the key file holds no key; add one, or remove it and set `generate_keys: true`")]
    Empty,
    /// A key belongs to nobody.
    #[error(
        "the key of {public_key} belongs to no member; add it to `federation.members`, or remove it"
    )]
    NotAMember {
        /// Its public half.
        public_key: PublicKey,
    },
    /// The keys alone do not make a federation.
    #[error("the keys do not make a federation of their own ({0}); configure `federation`")]
    Federation(#[source] FederationError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";

    #[test]
    fn a_missing_file_is_generated_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let error = load(&path, false, "gov", None).unwrap_err().to_string();
        assert!(error.contains("generate_keys"), "{error}");
        let (federation, keys) = load(&path, true, "gov", None).unwrap();
        assert_eq!(files::mode(&path).unwrap(), 0o600);
        assert_eq!(federation.threshold(), 1);
        let (_, again) = load(&path, true, "gov", None).unwrap();
        assert_eq!(keys[0].public_key(), again[0].public_key());
        assert_eq!(again[0].member_id, "gov");
    }

    #[test]
    fn hexadecimal_and_wif_with_or_without_a_name() {
        let wif = "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn";
        for text in [
            ONE.to_owned(),
            wif.to_owned(),
            format!("# mine\ngov: {ONE}\n"),
            format!("gov: \"{wif}\""),
        ] {
            let keys = parse(&text, "gov").unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].keypair().secret_key().display_secret().to_string(), ONE);
            assert_eq!(keys[0].member_id, "gov");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_never_shown() {
        let error = parse(&format!("{ONE}\nhunter2\n"), "gov").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        let shown = format!("{:?}", parse(ONE, "gov").unwrap());
        assert!(!shown.contains(ONE), "{shown}");
    }

    #[test]
    fn a_file_open_to_everyone_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, ONE).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        let error = load(&path, false, "gov", None).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_of_no_member_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (federation, _) = load(&folder.path().join("other"), true, "gov", None).unwrap();
        let error = load(&folder.path().join("keys"), true, "gov", Some(federation)).unwrap_err();
        assert!(matches!(error.problem, Problem::NotAMember { .. }), "{error}");
    }
}
