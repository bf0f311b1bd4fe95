//! What passes on a connection with TLS: its records are opened with the secrets that the governance
//! node logs, and their content is read as without TLS.
//!
//! Not a part of the connection: it changes nothing and answers nothing.
//!
//! Invariants:
//! - N4: nothing but TLS passes, and nothing but its hellos can be read by who has no secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alys_stream_transport::tls;
use bytes::BytesMut;
use rustls::crypto::cipher::{AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter};
use rustls::crypto::tls13::OkmBlock;
use rustls::{ContentType, KeyLog, ProtocolVersion, Tls13CipherSuite};

use super::{SessionTap, Way};
use crate::journal::Fact;
use crate::net::Tap;
use crate::sender;

/// Bytes of the header of a record.
const HEADER: usize = 5;

/// Where the random of a hello lies in its message.
const RANDOM: std::ops::Range<usize> = 6..38;

/// Kinds of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SEALED: u8 = 23;

/// `HkdfLabel`s of RFC 8446: how many bytes, the label, no context.
const KEY_LABEL: &[u8] = b"\x00\x20\x09tls13 key\x00";
const IV_LABEL: &[u8] = b"\x00\x0c\x08tls13 iv\x00";

/// Kinds of messages of a handshake that come in the clear.
const HELLOS: [u8; 2] = [1, 2];

/// The random of a client, and the label of a secret of its connection.
type Place = (Vec<u8>, String);

/// The secrets of every connection. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<BTreeMap<Place, Vec<u8>>>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((client_random.to_vec(), label.to_owned()), secret.to_vec());
    }
}

impl Secrets {
    fn secret(&self, random: &[u8], label: &str) -> Option<Vec<u8>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(random.to_vec(), label.to_owned())).cloned()
    }
}

/// What opens the records of one stretch of a connection.
struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    next: u64,
}

impl Opener {
    fn of(secret: &[u8]) -> Option<Self> {
        let suite = suite(secret.len())?;
        let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        expander.expand_slice(&[KEY_LABEL], &mut key).ok()?;
        expander.expand_slice(&[IV_LABEL], &mut iv).ok()?;
        let decrypter = suite.aead_alg.decrypter(AeadKey::from(key), Iv::from(iv));
        Some(Self { decrypter, next: 0 })
    }

    /// What is in a record, and of which kind it is; `None` of one that is sealed otherwise.
    fn open(&mut self, sealed: &[u8]) -> Option<(ContentType, Vec<u8>)> {
        let mut payload = sealed.to_vec();
        let message = InboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            &mut payload,
        );
        let opened = self.decrypter.decrypt(message, self.next).ok()?;
        self.next += 1;
        Some((opened.typ, opened.payload.to_vec()))
    }
}

/// The first suite of the product whose secrets are that long: both sides like it best.
fn suite(secret: usize) -> Option<&'static Tls13CipherSuite> {
    let provider = tls::provider();
    let mut suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
    suites.find(|suite| suite.common.hash_provider.output_len() == secret)
}

/// The tap of one direction of a connection with TLS.
pub(crate) struct SealedTap {
    inner: SessionTap,
    secrets: Secrets,
    /// The random of the client, by which both directions know their connection.
    random: Arc<OnceLock<Vec<u8>>>,
    opener: Option<Opener>,
    /// Whether what the secrets of the handshake open is over.
    is_shaken: bool,
    opened: BytesMut,
}

impl SealedTap {
    /// The taps of both directions of one connection.
    pub(crate) fn pair(inner: [SessionTap; 2], secrets: &Secrets) -> [Self; 2] {
        let random = Arc::default();
        inner.map(|inner| Self {
            inner: inner.honest(),
            secrets: secrets.clone(),
            random: Arc::clone(&random),
            opener: None,
            is_shaken: false,
            opened: BytesMut::new(),
        })
    }

    fn record(&mut self, kind: u8, content: &[u8]) {
        if !sender::payloads(content).is_empty() {
            return self.note("a payload");
        }
        match kind {
            HANDSHAKE if content.first().is_some_and(|kind| HELLOS.contains(kind)) => {
                if let Some(random) = content.get(RANDOM)
                    && self.inner.way == Way::ToGovernance
                {
                    // A second hello of a handshake has the random of the first.
                    drop(self.random.set(random.to_vec()));
                }
            }
            CHANGE_CIPHER_SPEC | ALERT => {}
            SEALED => match self.open(content) {
                Some((ContentType::ApplicationData, content)) => {
                    self.opened.extend_from_slice(&content);
                    while self.inner.next(&mut self.opened).is_some() {}
                }
                Some(_) => {}
                None => self.note("a record that the secrets of its connection do not open"),
            },
            _ => self.note("a message of a handshake"),
        }
    }

    fn open(&mut self, sealed: &[u8]) -> Option<(ContentType, Vec<u8>)> {
        if self.opener.is_none() {
            self.opener = self.opener();
        }
        let opened = self.opener.as_mut()?.open(sealed);
        if opened.is_some() || self.is_shaken {
            return opened;
        }
        self.is_shaken = true;
        self.opener = self.opener();
        self.opener.as_mut()?.open(sealed)
    }

    fn opener(&self) -> Option<Opener> {
        let label = match (self.inner.way, self.is_shaken) {
            (Way::ToGovernance, false) => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            (Way::ToGovernance, true) => "CLIENT_TRAFFIC_SECRET_0",
            (Way::ToNode, false) => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            (Way::ToNode, true) => "SERVER_TRAFFIC_SECRET_0",
        };
        Opener::of(&self.secrets.secret(self.random.get()?, label)?)
    }

    fn note(&self, what: &'static str) {
        self.inner.note(Some(Fact::InTheClear { what }));
    }
}

impl Tap for SealedTap {
    fn next(&mut self, begun: &mut BytesMut) -> Option<BytesMut> {
        let [kind, major, _, high, low] = *begun.first_chunk::<HEADER>()?;
        if !(CHANGE_CIPHER_SPEC..=SEALED).contains(&kind) || major != 3 {
            self.note("what is no TLS");
            return Some(begun.split());
        }
        let whole = HEADER + usize::from(u16::from_be_bytes([high, low]));
        let record = (begun.len() >= whole).then(|| begun.split_to(whole))?;
        self.record(kind, record.get(HEADER..).unwrap_or_default());
        Some(record)
    }

    fn blocked(&mut self) {
        self.inner.blocked();
    }

    fn flushed(&mut self) {
        self.inner.flushed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::net::Machine;
    use crate::planted::Mixer;
    use crate::tap::Tapped;

    /// What is wrong with these bytes on a connection with TLS.
    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&'static str>) {
        let journal = Journal::new();
        let shared = Arc::new(Tapped {
            journal: journal.clone(),
            clocks: BTreeMap::new(),
            logs: Arc::default(),
            ids: crate::logs::Logs::default(),
            planted: None,
            mixer: Mixer::default(),
        });
        let taps = [Way::ToGovernance, Way::ToNode]
            .map(|way| SessionTap::new(Arc::clone(&shared), way, (Machine::node(0), Machine(1))));
        let [mut tap, _] = SealedTap::pair(taps, &Secrets::default());
        let mut begun = BytesMut::from(bytes);
        assert_eq!(tap.next(&mut begun).as_deref(), Some(bytes), "it travels all the same");
        let facts: Vec<Fact> = journal.entries().iter().map(|it| it.fact.clone()).collect();
        let expected = expected.map(|what| Fact::InTheClear { what });
        assert_eq!(facts, Vec::from_iter(expected));
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let bytes = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &bytes, content].concat()
    }

    #[test]
    fn what_anybody_can_read_is_noted() {
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some("what is no TLS"));
        check(&record(HANDSHAKE, &[1; 100]), None);
        check(&record(HANDSHAKE, &[11; 100]), Some("a message of a handshake"));
        check(&record(CHANGE_CIPHER_SPEC, &[1]), None);
        check(&record(HANDSHAKE, &[0xd7; 100]), Some("a payload"));
        let unknown = "a record that the secrets of its connection do not open";
        check(&record(SEALED, &[9; 100]), Some(unknown));
    }
}
