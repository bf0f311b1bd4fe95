//! Handshakes over memory: each fault has its own error on each side.

use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pem::certificates;
use super::*;

mod disk;
mod pins;
mod reload;
mod revocation;

/// A certificate authority, and what it issues.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    issued: AtomicU64,
}

pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    serial: SerialNumber,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, issued: AtomicU64::new(0) }
    }

    pub(crate) fn issue(&self, common_name: &str, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        self.finish(&params)
    }

    fn finish(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from(self.issued.fetch_add(1, Ordering::Relaxed) + 1);
        let mut params = params.clone();
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem(), serial }
    }

    pub(crate) fn as_pem(&self) -> Pem<'_> {
        Pem { label: "ca.pem", bytes: self.pem.as_bytes() }
    }
}

impl Issued {
    pub(crate) fn identity(&self) -> Identity<'_> {
        Identity {
            certificates: Pem { label: "node.pem", bytes: self.certificate.as_bytes() },
            key: Pem { label: "node.key", bytes: self.key.as_bytes() },
        }
    }
}

struct World {
    authority: Authority,
    server: Issued,
    client: Issued,
}

fn world() -> World {
    world_of("Test CA")
}

fn world_of(name: &str) -> World {
    let authority = Authority::new(name);
    let server = authority.issue("gov-1", &["gov.test"]);
    let client = authority.issue("node-1", &["node.test"]);
    World { authority, server, client }
}

impl World {
    fn server(&self) -> Arc<ServerConfig> {
        server_config(self.server.identity(), &[self.authority.as_pem()]).unwrap()
    }

    fn client(&self) -> Arc<ClientConfig> {
        let authorities = [self.authority.as_pem()];
        client_config(Authorities::Private(&authorities), Some(self.client.identity())).unwrap()
    }
}

type Outcome = Result<(), TlsFault>;

fn fault(error: &std::io::Error) -> TlsFault {
    TlsFault::from_io(error).unwrap_or(TlsFault::Closed)
}

/// A whole handshake, ALPN check and one byte each way: what the client and the server see.
async fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> (Outcome, Outcome) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = async {
        let connector = tokio_rustls::TlsConnector::from(client);
        let mut stream = connector.connect(name, near).await.map_err(|e| fault(&e))?;
        check_alpn(stream.get_ref().1.alpn_protocol())?;
        let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768, "T19");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "T61");
        stream.write_all(b"x").await.map_err(|e| fault(&e))?;
        stream.read_u8().await.map_err(|e| fault(&e))?;
        Ok(())
    };
    let accept = async {
        let acceptor = tokio_rustls::TlsAcceptor::from(server);
        let mut stream = acceptor.accept(far).await.map_err(|e| fault(&e))?;
        check_alpn(stream.get_ref().1.alpn_protocol())?;
        stream.write_all(b"y").await.map_err(|e| fault(&e))?;
        stream.read_u8().await.map_err(|e| fault(&e))?;
        Ok(())
    };
    tokio::join!(connect, accept)
}

#[tokio::test]
async fn two_sides_of_one_authority_agree() {
    let world = world();
    let (client, server) = (world.client(), world.server());
    // T61: the second handshake is as full as the first.
    for _ in 0..2 {
        let seen = handshake(Arc::clone(&client), Arc::clone(&server), "gov.test").await;
        assert_eq!(seen, (Ok(()), Ok(())));
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_the_client_and_by_the_server() {
    let (world, other) = (world(), world_of("Other CA"));
    // Another authority of the same name is another authority.
    let (client, _) = handshake(world_of("Test CA").client(), world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::UnknownAuthority));
    let (client, server) = handshake(other.client(), world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::UnknownAuthority));
    assert_eq!(server, Err(TlsFault::ClientCertificateRefused("UnknownCA".into())));
    // The client trusts the server, but shows a certificate of another authority.
    let authorities = [world.authority.as_pem()];
    let stranger =
        client_config(Authorities::Private(&authorities), Some(other.client.identity())).unwrap();
    let (client, server) = handshake(stranger, world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::ClientCertificateRefused("UnknownCA".into())));
    assert_eq!(server, Err(TlsFault::UnknownAuthority));
}

#[tokio::test]
async fn another_name_is_refused_with_both_names() {
    let world = world();
    let (client, _) = handshake(world.client(), world.server(), "other.test").await;
    let Err(TlsFault::WrongName { expected, presented }) = client else { panic!("{client:?}") };
    assert_eq!(expected, "other.test");
    assert!(presented.contains("gov.test"), "{presented}");
}

#[tokio::test]
async fn a_missing_client_certificate_is_refused() {
    let world = world();
    let authorities = [world.authority.as_pem()];
    let anonymous = client_config(Authorities::Private(&authorities), None).unwrap();
    let (client, server) = handshake(anonymous, world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::ClientCertificateMissing), "T21");
    assert_eq!(server, Err(TlsFault::ClientCertificateMissing), "T21");
}

#[tokio::test]
async fn expired_and_early_certificates_are_refused() {
    let mut world = world();
    let mut params = CertificateParams::new(vec!["gov.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    world.server = world.authority.finish(&params);
    let (client, _) = handshake(world.client(), world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::Expired));
    params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    params.not_after = rcgen::date_time_ymd(4001, 1, 1);
    world.server = world.authority.finish(&params);
    let (client, _) = handshake(world.client(), world.server(), "gov.test").await;
    assert_eq!(client, Err(TlsFault::NotYetValid));
    // So they are when a node shows them.
    let mut world = world_of("Test CA");
    for ((since, until), (seen, told)) in [
        ((2000, 2001), (TlsFault::Expired, "CertificateExpired")),
        ((4000, 4001), (TlsFault::NotYetValid, "CertificateExpired")),
    ] {
        params.not_before = rcgen::date_time_ymd(since, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        world.client = world.authority.finish(&params);
        let (client, server) = handshake(world.client(), world.server(), "gov.test").await;
        assert_eq!(server, Err(seen));
        assert_eq!(client, Err(TlsFault::ClientCertificateRefused(told.into())));
    }
}

#[tokio::test]
async fn http2_must_be_agreed_on() {
    let world = world();
    let mut silent = (*world.client()).clone();
    silent.alpn_protocols.clear();
    assert_eq!(check_alpn(None), Err(TlsFault::NoHttp2));
    let (client, server) = handshake(Arc::new(silent), world.server(), "gov.test").await;
    // Whichever side finds it out first hangs up.
    assert!([&client, &server].contains(&&Err(TlsFault::NoHttp2)), "{client:?} {server:?}");
    let mut old = (*world.server()).clone();
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (client, server) = handshake(world.client(), Arc::new(old), "gov.test").await;
    assert_eq!((client, server), (Err(TlsFault::NoHttp2), Err(TlsFault::NoHttp2)));
}

/// A TLS record with one handshake message in it.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let mut bytes = vec![22, 3, 3];
    bytes.extend((length + 4).to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn a_tls_1_2_client_is_refused() {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    // ClientHello: version 1.2, one cipher suite, signature algorithms, and no supported_versions.
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    hello.extend([0, 18, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23]);
    near.write_all(&record(1, &hello)).await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(world().server());
    let error = acceptor.accept(far).await.unwrap_err();
    assert_eq!(fault(&error), TlsFault::Version, "T19: {error}");
    let mut alert = [0; 7];
    near.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert[6]), (21, 70), "alert: protocol_version");
}

#[tokio::test]
async fn a_tls_1_2_server_is_refused() {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    // ServerHello: version 1.2, and no supported_versions.
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.extend([0, 0xc0, 0x2f, 0]);
    far.write_all(&record(2, &hello)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(world().client());
    let name = ServerName::try_from("gov.test").unwrap();
    let error = connector.connect(name, near).await.unwrap_err();
    assert_eq!(fault(&error), TlsFault::Version, "T19: {error}");
}

#[test]
fn a_certificate_says_who_the_peer_is() {
    let world = world();
    let pem = Pem { label: "x", bytes: world.client.certificate.as_bytes() };
    let identity = peer_identity(&certificates(pem).unwrap()[0]).unwrap();
    assert_eq!(identity.name(), Some("node-1"));
    assert_eq!(identity.dns_names, ["node.test"]);
    assert!(identity.is_named("node.test") && !identity.is_named("gov-1"));
    assert!(peer_identity(b"garbage").is_err());
}

#[test]
fn errors_name_the_input_and_never_show_it() {
    let world = world();
    let identity = world.client.identity();
    let authorities = [world.authority.as_pem()];
    let check = |identity: Identity<'_>, expect: &expect_test::Expect| {
        let error = client_config(Authorities::Private(&authorities), Some(identity)).unwrap_err();
        let shown = format!("{error}");
        assert!(!format!("{shown} {error:?}").contains("hunter2"), "T22");
        expect.assert_eq(&shown);
    };
    let key = |bytes| Identity { key: Pem { label: "node.key", bytes }, ..identity };
    check(
        key(b"nothing"),
        &expect_test::expect![
            "node.key holds no private key (PKCS#8, PKCS#1 or SEC1; encrypted keys are not read)"
        ],
    );
    check(
        key(b"-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n"),
        &expect_test::expect![
            "node.key is not readable as PEM: a section is not base64; export it again in PEM form"
        ],
    );
    check(
        key(b"-----BEGIN PRIVATE KEY-----\nhunter2\n"),
        &expect_test::expect![
            "node.key is not readable as PEM: a section has no END line; export it again in PEM form"
        ],
    );
    check(
        Identity { key: world.server.identity().key, ..identity },
        &expect_test::expect![
            "node.pem and node.key do not make an identity; use the key that the certificate was made for"
        ],
    );
    check(
        Identity { certificates: Pem { label: "node.pem", bytes: b"" }, ..identity },
        &expect_test::expect!["node.pem holds no certificate (no BEGIN CERTIFICATE section)"],
    );
    let error = server_config(identity, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no certificate authority is configured; name at least one CA file"
    );
    assert!(!format!("{identity:?}").contains("PRIVATE"), "T22");
}
