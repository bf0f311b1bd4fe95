//! Who is refused by a running governance node before it says anything: TLS 1.2, and TLS 1.3 without
//! a client certificate.
//!
//! Asked twice: by bytes of our own, everywhere, and by `openssl s_client`, a client that nobody
//! here wrote, where that program is installed. Where it is not, that is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what was asked, and by whom, is shown")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use alys_stream_tests::deployment::{admin_of, listen_of, mint};
use alys_stream_tests::process::{PATIENCE, Served};
use alys_stream_transport::tls::{self, Authorities, Pem};
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

/// The alerts of RFC 8446, section 6.
const PROTOCOL_VERSION: u8 = 70;
const CERTIFICATE_REQUIRED: u8 = 116;

/// A fatal alert that is not encrypted: its record, but for the description.
const ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];

/// A governance node that runs.
struct Listening {
    folder: tempfile::TempDir,
    address: String,
    governance: Served,
}

impl Listening {
    async fn start() -> Self {
        let folder = mint(1);
        let config = folder.path().join("d/governance-1/governance.yaml");
        let mut governance = Served::start("governance", &config, &admin_of(&config));
        governance.ready().await;
        Self { address: listen_of(&config), folder, governance }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("d/ca/ca.pem")
    }

    /// Refusing cost it nothing: it still serves, and stops politely.
    async fn stop(mut self) {
        self.governance.ready().await;
        self.governance.stop().await;
    }
}

/// A `ClientHello` of TLS 1.2: one suite, one curve, one signature scheme, no `supported_versions`.
fn hello_of_tls_1_2() -> Vec<u8> {
    let extensions: [&[u8]; 2] = [
        &[0, 10, 0, 4, 0, 2, 0, 23], // supported_groups: secp256r1
        &[0, 13, 0, 4, 0, 2, 4, 3],  // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2b]); // ECDHE-ECDSA-AES128-GCM-SHA256
    body.extend([1, 0]); // no compression
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let node = Listening::start().await;
    let mut stream = TcpStream::connect(&node.address).await.unwrap();
    stream.write_all(&hello_of_tls_1_2()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let expected = [ALERT.as_slice(), &[PROTOCOL_VERSION]].concat();
    assert_eq!(answer, expected, "one alert, and the end");
    node.stop().await;
}

#[tokio::test]
async fn no_client_certificate_is_refused() {
    let node = Listening::start().await;
    let authority = std::fs::read(node.authority()).unwrap();
    let authorities = [Pem { label: "ca.pem", bytes: &authority }];
    let config = tls::client_config(Authorities::Private(&authorities), None).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
    let stream = TcpStream::connect(&node.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    // TLS 1.3 tells the client only after its own half of the handshake.
    let refused = async {
        let mut stream = connector.connect(name, stream).await?;
        stream.read_u8().await
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap_err();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    assert_eq!(cause, Some(&expected), "{error}");
    assert_eq!(u8::from(AlertDescription::CertificateRequired), CERTIFICATE_REQUIRED);
    node.stop().await;
}

/// What `openssl s_client` says of a connection; `None` where there is no such program.
async fn s_client(address: &str, authority: &Path, version: &str) -> Option<Output> {
    let asking = Command::new("openssl")
        .args(["s_client", version, "-alpn", "h2", "-connect", address, "-CAfile"])
        .arg(authority)
        // Held open: at its end the program would leave before it is told anything.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut asking = match asking {
        Ok(asking) => asking,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("not asked by `openssl s_client`: no such program is installed");
            return None;
        }
        Err(error) => panic!("openssl: {error}"),
    };
    let stdin = asking.stdin.take();
    let ended = tokio::time::timeout(PATIENCE, asking.wait_with_output()).await;
    drop(stdin);
    Some(ended.expect("it is told at once").unwrap())
}

/// Asks with one version, and expects one alert.
async fn s_client_is_refused(version: &str, alert: u8) {
    let node = Listening::start().await;
    if let Some(output) = s_client(&node.address, &node.authority(), version).await {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(&format!("SSL alert number {alert}")), "{said}");
        println!("`openssl s_client {version}`: alert {alert}");
    }
    node.stop().await;
}

#[tokio::test]
async fn openssl_with_tls_1_2_is_refused() {
    s_client_is_refused("-tls1_2", PROTOCOL_VERSION).await;
}

#[tokio::test]
async fn openssl_without_a_client_certificate_is_refused() {
    s_client_is_refused("-tls1_3", CERTIFICATE_REQUIRED).await;
}
