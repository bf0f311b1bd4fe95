//! Entries of the federation history, and their bytes.
//!
//! Own bytes, little endian. Every entry begins with the format (1, one byte) and its kind (one
//! byte). A text or a message is its length (4) and its bytes.
//!
//! | kind | then |
//! |---|---|
//! | 1 root | version (8), at (8), first seq (8), script (1: 0 P2WSH, 1 P2TR), threshold (4), count (4); each member: id (text), key (33), weight (4) |
//! | 2 accepted | at (8), endpoint (text), the encoded `FederationUpdate` with its signatures |
//! | 3 in force | version (8), height (8), at (8), first seq (8) |
//! | 4 burnt | version (8), at (8) |
//! | 5 emergency | as accepted |
//!
//! Times are Unix milliseconds. Nothing follows the last field.

use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, FederationError, Member, ScriptKind};
use alys_stream_protocol::governance::FederationUpdate;
use alys_stream_protocol::limits;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;
use bitcoin::secp256k1::PublicKey;
use bytes::Bytes;
use prost::Message as _;

use super::Version;

/// Format of the entries.
const FORMAT: u8 = 1;
const KIND_ROOT: u8 = 1;
const KIND_ACCEPTED: u8 = 2;
const KIND_IN_FORCE: u8 = 3;
const KIND_BURNT: u8 = 4;
const KIND_EMERGENCY: u8 = 5;
const KEY_BYTES: usize = 33;

/// One step of the history.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A configured federation begins it, or takes over.
    Root(RootEntry),
    /// An update was accepted.
    Accepted(AcceptedEntry),
    /// An accepted one took effect.
    InForce(InForceEntry),
    /// Two contents were signed for a version.
    Burnt {
        /// The version.
        version: Version,
        /// When that was noticed.
        at: UnixMillis,
    },
    /// A halt or a resume acted.
    Emergency(EmergencyEntry),
}

/// A configured federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootEntry {
    /// Its version.
    pub version: Version,
    /// Its members and threshold.
    pub federation: Federation,
    /// Since when.
    pub at: UnixMillis,
    /// Messages from this one on were accepted under it.
    pub first_seq: Seq,
}

/// An accepted update.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedEntry {
    /// When.
    pub at: UnixMillis,
    /// From which endpoint.
    pub endpoint: String,
    /// As signed.
    pub update: Arc<FederationUpdate>,
}

/// An update that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForceEntry {
    /// Its version.
    pub version: Version,
    /// The height of the chain then; 0 when it was not known.
    pub height: u64,
    /// When.
    pub at: UnixMillis,
    /// Messages from this one on were accepted under it.
    pub first_seq: Seq,
}

/// A halt or a resume.
#[derive(Debug, Clone, PartialEq)]
pub struct EmergencyEntry {
    /// When.
    pub at: UnixMillis,
    /// From which endpoint.
    pub endpoint: String,
    /// As signed.
    pub update: Arc<FederationUpdate>,
}

/// Bytes that are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// A newer program wrote it.
    #[error("format {0} of the federation history is not known: use the newer program")]
    Format(u8),
    /// A kind that this format does not have.
    #[error("{0} is no kind of entry of the federation history")]
    Kind(u8),
    /// It ends early, goes on after its end, or holds what its kind cannot.
    #[error("an entry of the federation history is unreadable ({0})")]
    Unreadable(&'static str),
    /// Its members do not make a federation.
    #[error("an entry of the federation history holds no federation: {0}")]
    Federation(#[source] FederationError),
}

impl Entry {
    /// The bytes of the entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        match self {
            Self::Root(root) => put_root(&mut out, root),
            Self::Accepted(it) => {
                put_signed(&mut out, KIND_ACCEPTED, it.at, &it.endpoint, &it.update);
            }
            Self::InForce(it) => {
                out.push(KIND_IN_FORCE);
                for number in [it.version.0, it.height, it.at.0, it.first_seq.0] {
                    out.extend(number.to_le_bytes());
                }
            }
            Self::Burnt { version, at } => {
                out.push(KIND_BURNT);
                out.extend(version.0.to_le_bytes());
                out.extend(at.0.to_le_bytes());
            }
            Self::Emergency(it) => {
                put_signed(&mut out, KIND_EMERGENCY, it.at, &it.endpoint, &it.update);
            }
        }
        out.into()
    }

    /// Reads what [`Entry::encode`] wrote. Disk content never panics.
    ///
    /// # Errors
    ///
    /// When the bytes are no entry.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let mut reader = Reader(bytes);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(InvalidEntry::Format(format));
        }
        let entry = match reader.u8()? {
            KIND_ROOT => Self::Root(root(&mut reader)?),
            KIND_ACCEPTED => {
                let (at, endpoint, update) = signed(&mut reader)?;
                Self::Accepted(AcceptedEntry { at, endpoint, update })
            }
            KIND_IN_FORCE => Self::InForce(InForceEntry {
                version: Version(reader.u64()?),
                height: reader.u64()?,
                at: UnixMillis(reader.u64()?),
                first_seq: Seq(reader.u64()?),
            }),
            KIND_BURNT => {
                Self::Burnt { version: Version(reader.u64()?), at: UnixMillis(reader.u64()?) }
            }
            KIND_EMERGENCY => {
                let (at, endpoint, update) = signed(&mut reader)?;
                Self::Emergency(EmergencyEntry { at, endpoint, update })
            }
            kind => return Err(InvalidEntry::Kind(kind)),
        };
        match reader.0 {
            [] => Ok(entry),
            _ => Err(InvalidEntry::Unreadable("more bytes than fields")),
        }
    }
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).unwrap_or(u32::MAX).to_le_bytes()
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(length(bytes.len()));
    out.extend(bytes);
}

fn put_root(out: &mut Vec<u8>, root: &RootEntry) {
    out.push(KIND_ROOT);
    for number in [root.version.0, root.at.0, root.first_seq.0] {
        out.extend(number.to_le_bytes());
    }
    out.push(match root.federation.script_kind() {
        ScriptKind::P2wsh => 0,
        ScriptKind::P2tr => 1,
    });
    out.extend(root.federation.threshold().to_le_bytes());
    out.extend(length(root.federation.members().len()));
    for member in root.federation.members() {
        put(out, member.id.as_bytes());
        out.extend(member.public_key.serialize());
        out.extend(member.weight.to_le_bytes());
    }
}

fn put_signed(
    out: &mut Vec<u8>,
    kind: u8,
    at: UnixMillis,
    endpoint: &str,
    update: &FederationUpdate,
) {
    out.push(kind);
    out.extend(at.0.to_le_bytes());
    put(out, endpoint.as_bytes());
    put(out, &update.encode_to_vec());
}

fn root(reader: &mut Reader<'_>) -> Result<RootEntry, InvalidEntry> {
    let version = Version(reader.u64()?);
    let at = UnixMillis(reader.u64()?);
    let first_seq = Seq(reader.u64()?);
    let script = match reader.u8()? {
        0 => ScriptKind::P2wsh,
        1 => ScriptKind::P2tr,
        _ => return Err(InvalidEntry::Unreadable("script")),
    };
    let threshold = reader.u32()?;
    let count = reader.u32()?;
    if usize::try_from(count).map_or(true, |count| count > limits::FEDERATION_MEMBERS_MAX) {
        return Err(InvalidEntry::Unreadable("number of members"));
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let id = reader.text()?;
        let public_key = PublicKey::from_slice(reader.take(KEY_BYTES)?)
            .map_err(|_| InvalidEntry::Unreadable("key of a member"))?;
        members.push(Member { id, public_key, weight: reader.u32()? });
    }
    let federation =
        Federation::try_new(threshold, members, script).map_err(InvalidEntry::Federation)?;
    Ok(RootEntry { version, federation, at, first_seq })
}

type Signed = (UnixMillis, String, Arc<FederationUpdate>);

fn signed(reader: &mut Reader<'_>) -> Result<Signed, InvalidEntry> {
    let at = UnixMillis(reader.u64()?);
    let endpoint = reader.text()?;
    let bytes = reader.bytes()?;
    let update = FederationUpdate::decode(bytes).map_err(|_| InvalidEntry::Unreadable("update"))?;
    Ok((at, endpoint, Arc::new(update)))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidEntry> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(InvalidEntry::Unreadable("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidEntry> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| InvalidEntry::Unreadable("it ends early"))
    }

    fn u8(&mut self) -> Result<u8, InvalidEntry> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, InvalidEntry> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, InvalidEntry> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], InvalidEntry> {
        let count = self.u32()?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<String, InvalidEntry> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| InvalidEntry::Unreadable("text"))
    }
}
