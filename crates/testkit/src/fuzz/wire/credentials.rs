//! What a peer shows to say who it is, and our own files that say whom to believe.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | bit 0: our own files, else what a peer shows |
//! | then, for each piece: 2 | bytes that follow |
//! | … | a certificate, leaf first; or one of [`FILES`] |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::tls::{
    ClientSettings, ClientTls, PeerIdentity, Pin, ReadFile, ReloadConfig, Revocation,
    ServerSettings, ServerTls, TlsLoadError, peer_identity,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};

use super::pieces;

/// Our own files, in the order of their pieces. The authority is that of both sides.
const FILES: [&str; 5] = ["ca", "certificate", "key", "pins", "crl"];

/// What is really used: for tests alone, valid from 2020 to 2099.
const REAL: [&[u8]; 5] = [
    include_bytes!("../../../testdata/credentials/ca.pem"),
    include_bytes!("../../../testdata/credentials/node.pem"),
    include_bytes!("../../../testdata/credentials/node.key"),
    include_bytes!("../../../testdata/credentials/pins.txt"),
    include_bytes!("../../../testdata/credentials/crl.pem"),
];

const NAME: &str = "node-1.example";

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Letters that make a line of a key too long to be there by chance.
const KEY_LETTERS_MIN: usize = 32;

/// Both sides with the real files, and whom they believe.
struct Sides {
    client: ClientTls,
    server: ServerTls,
    believed: PeerIdentity,
}

static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    let read = reader(&REAL);
    let leaf = certificate().expect("invariant: testdata is readable");
    Sides {
        client: ClientTls::load(&client_settings(), &read).expect("invariant: testdata is usable"),
        server: ServerTls::load(&server_settings(), &read).expect("invariant: testdata is usable"),
        believed: peer_identity(&leaf).expect("invariant: testdata is readable"),
    }
});

pub(super) fn feed(data: &[u8]) -> bool {
    let Some((flags, rest)) = data.split_first() else { return false };
    let pieces: Vec<_> = pieces(rest).collect();
    if flags & 1 == 0 { show(&pieces) } else { configure(&pieces) }
}

/// A chain of a peer: whoever is believed is the one whom the authority vouched for.
fn show(chain: &[&[u8]]) -> bool {
    let Ok(name) = ServerName::try_from(NAME) else { return false };
    let identity = chain.first().and_then(|leaf| peer_identity(leaf).ok());
    let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| (*der).into()).collect();
    let Sides { client, server, believed } = &*SIDES;
    let answers = [client.still_trusted(&name, &chain, NOW), server.still_trusted(&chain, NOW)];
    for answer in &answers {
        assert!(
            answer.is_err() || identity.as_ref() == Some(believed),
            "invariant T21: nobody vouched for {identity:?}"
        );
    }
    if let Some(identity) = &identity {
        let name = identity.name();
        assert!(name.is_none_or(|name| identity.is_named(name)), "{identity:?} has its name");
    }
    answers.iter().any(Result::is_ok)
}

/// Our own files: both sides are ready, or say in one line why not, and never with a key in it.
fn configure(files: &[&[u8]]) -> bool {
    let read = reader(files);
    let client = ClientTls::load(&client_settings(), &read).map(drop);
    let server = ServerTls::load(&server_settings(), &read).map(drop);
    let is_ready = client.is_ok() || server.is_ok();
    let key = files.get(2).copied().unwrap_or_default();
    for error in [client.err(), server.err()].into_iter().flatten() {
        check(&error, &String::from_utf8_lossy(key));
    }
    if let Some(Ok(text)) = files.get(3).map(|text| std::str::from_utf8(text)) {
        for pin in Pin::read_lines(text).into_iter().flatten() {
            assert_eq!(pin.to_string().parse(), Ok(pin), "a pin is what it is written as");
        }
    }
    is_ready
}

fn check(error: &TlsLoadError, key: &str) {
    let said = error.to_string();
    assert!(!said.contains('\n'), "an error is one line: {said:?}");
    let said = format!("{said} {error:?}");
    let is_secret = |line: &&str| {
        line.len() >= KEY_LETTERS_MIN && line.bytes().all(|letter| letter.is_ascii_alphanumeric())
    };
    let shown = key.lines().filter(is_secret).find(|line| said.contains(*line));
    assert!(shown.is_none(), "invariant T22: a key is in {said:?}");
}

/// Inputs that mean something, by name.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let leaf = certificate().unwrap_or_else(|| Vec::new().into());
    let authority = CertificateDer::from_pem_slice(REAL[0]).unwrap_or_else(|_| Vec::new().into());
    let list = CertificateRevocationListDer::from_pem_slice(REAL[4]);
    let list = list.unwrap_or_else(|_| Vec::new().into());
    let [ca, certificate, key, pins, crl] = REAL;
    vec![
        ("chain", input(0, &[&leaf, &authority])),
        ("authority_alone", input(0, &[&authority])),
        ("files", input(1, &[ca, certificate, key, pins, crl])),
        ("list_in_der", input(1, &[ca, certificate, key, pins, &list])),
        ("another_key", input(1, &[ca, ca, key, pins, crl])),
        ("swapped", input(1, &[ca, key, certificate, key, crl])),
    ]
}

fn input(flags: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let framed = pieces.iter().flat_map(|piece| {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        [length.to_le_bytes().as_slice(), piece].concat()
    });
    std::iter::once(flags).chain(framed).collect()
}

fn certificate() -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(REAL[1]).ok()
}

fn reader(files: &[&[u8]]) -> ReadFile {
    let files: Vec<Vec<u8>> = files.iter().map(|file| file.to_vec()).collect();
    Arc::new(move |path: &Path| {
        let place = FILES.iter().position(|name| Path::new(name) == path);
        let file = place.and_then(|place| files.get(place));
        file.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn revocation() -> Revocation {
    Revocation { files: vec![PathBuf::from("crl")], ..Revocation::default() }
}

fn client_settings() -> ClientSettings {
    ClientSettings {
        ca: Some("ca".into()),
        certificate: Some("certificate".into()),
        key: Some("key".into()),
        pins_file: Some("pins".into()),
        crls: revocation(),
        ..ClientSettings::default()
    }
}

fn server_settings() -> ServerSettings {
    ServerSettings {
        certificate: "certificate".into(),
        key: "key".into(),
        client_ca: "ca".into(),
        crls: revocation(),
        reload: ReloadConfig::default(),
    }
}
