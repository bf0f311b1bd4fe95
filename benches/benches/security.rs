//! The security layer: what it costs to know who a peer is, and that a federation agreed.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, Member, ScriptKind, sign_update};
use alys_stream_protocol::governance::{FederationConfig, FederationUpdate};
use alys_stream_protocol::session::SignatureSet;
use alys_stream_transport::tls::{
    ClientSettings, ClientTls, ReadFile, ReloadConfig, Revocation, ServerSettings, ServerTls,
    peer_identity,
};
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;

/// Members of a federation, and how many of them have to sign.
const FEDERATIONS: [(u8, u8); 2] = [(5, 3), (15, 10)];

/// The name in the certificate of the server.
const SERVER: &str = "gov-1.example";

/// A federation, and a proposal to go on as it is, signed by as many as it takes.
fn signed(members: u8, threshold: u8) -> (Federation, FederationUpdate) {
    let curve = Secp256k1::new();
    let keys = (1..=members).map(|n| {
        let secret = SecretKey::from_slice(&[n; 32]).expect("in range");
        (format!("member-{n}"), Keypair::from_secret_key(&curve, &secret))
    });
    let keys: Vec<(String, Keypair)> = keys.collect();
    let member = |(id, keypair): &(String, Keypair)| Member {
        id: id.clone(),
        public_key: keypair.public_key(),
        weight: 1,
    };
    let all = keys.iter().map(member).collect();
    let federation = Federation::try_new(u32::from(threshold), all, ScriptKind::P2wsh);
    let mut update = FederationUpdate {
        config: Some(FederationConfig {
            signature_threshold: u32::from(threshold),
            parameters: [("version".to_owned(), "2".to_owned())].into(),
            ..FederationConfig::default()
        }),
        ..FederationUpdate::default()
    };
    let signers = keys.iter().take(usize::from(threshold));
    let signatures = signers.map(|(id, keypair)| sign_update(&update, id, keypair)).collect();
    update.update_signature = SignatureSet { signatures }.encode_to_vec().into();
    (federation.expect("it is valid"), update)
}

/// Whether the federation in force signed an update, before it is acted on (D9).
fn updates(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    for (members, threshold) in FEDERATIONS {
        let (federation, update) = signed(members, threshold);
        group.throughput(Throughput::Elements(u64::from(threshold)));
        group.bench_function(format!("verify_{threshold}_of_{members}"), |b| {
            b.iter(|| federation.verify_update(black_box(&update)).expect("it is signed"));
        });
    }
    group.finish();
}

/// Certificates of an authority, for both sides, as files.
fn mint(dir: &Path) {
    let write = |name: &str, pem: String| {
        std::fs::write(dir.join(name), pem).expect("a directory of our own");
    };
    let key = KeyPair::generate().expect("there is randomness");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    write("ca.pem", params.self_signed(&key).expect("it is its own").pem());
    let issuer = Issuer::new(params, key);
    for (file, name) in [("server", SERVER), ("client", "alys-1")] {
        let key = KeyPair::generate().expect("there is randomness");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &issuer).expect("it is issued");
        write(&format!("{file}.pem"), certificate.pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}

/// Who a peer is: its certificate, read; and a whole handshake of both sides, in memory.
fn identities(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    mint(dir.path());
    let at = |name: &str| dir.path().join(name);
    let read: ReadFile = Arc::new(|path: &Path| std::fs::read(path));
    let server = ServerTls::load(
        &ServerSettings {
            certificate: at("server.pem"),
            key: at("server.key"),
            client_ca: at("ca.pem"),
            crls: Revocation::default(),
            reload: ReloadConfig::default(),
        },
        &read,
    );
    let client = ClientTls::load(
        &ClientSettings {
            ca: Some(at("ca.pem")),
            certificate: Some(at("client.pem")),
            key: Some(at("client.key")),
            ..ClientSettings::default()
        },
        &read,
    );
    let (server, client) = (server.expect("it is valid"), client.expect("it is valid"));
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(at("client.pem"));
    let certificate = certificate.expect("a certificate");
    let mut group = c.benchmark_group("peer");
    group.throughput(Throughput::Elements(1));
    group.bench_function("identity", |b| {
        b.iter(|| peer_identity(black_box(&certificate)).expect("it has a name"));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    group.bench_function("handshake", |b| {
        b.iter(|| runtime.block_on(handshake(&client, &server)));
    });
    group.finish();
}

async fn handshake(client: &ClientTls, server: &ServerTls) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(client.config()));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(server.config()));
    let name = ServerName::try_from(SERVER).expect("a name");
    let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    black_box((near.expect("it is trusted"), far.expect("it is trusted")));
}

criterion_group!(benches, updates, identities);
criterion_main!(benches);
