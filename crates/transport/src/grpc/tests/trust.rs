//! TLS that changes while a connection lives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::sessions::serve_tls;
use super::*;
use crate::tls::{ClientSettings, ClientTls, Pin, TlsReloader};

#[tokio::test]
async fn a_peer_that_a_reload_distrusts_is_dropped_at_once_and_one_that_it_trusts_stays() {
    let authority = Authority::new("Test CA");
    let (server, node) = (authority.issue("gov-1", &["localhost"]), authority.issue("node-1", &[]));
    let leaf = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
    let presented = tls::peer_identity(&leaf).unwrap();
    let serving = tls::server_config(server.identity(), &[authority.as_pem()]).unwrap();
    let far = Memory::with(0, 0);
    let peer = Peer { sessions: true, exchange: far, shutdown: CancellationToken::new() };
    let mut tasks = JoinSet::new();
    let address = serve_tls(&mut tasks, peer, serving).await;

    let files: BTreeMap<PathBuf, String> =
        [("ca", &authority.pem), ("certificate", &node.certificate), ("key", &node.key)]
            .map(|(name, text)| (name.into(), text.clone()))
            .into();
    let read = move |path: &std::path::Path| {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        files.get(path).map(|text| text.clone().into_bytes()).ok_or_else(missing)
    };
    let settings = ClientSettings {
        ca: Some("ca".into()),
        certificate: Some("certificate".into()),
        key: Some("key".into()),
        ..ClientSettings::default()
    };
    let (_reloader, source) =
        TlsReloader::<ClientTls>::try_new(settings.clone(), Arc::new(read), Arc::new(SystemClock))
            .unwrap();

    let server_name = Some("localhost".to_owned());
    let url = format!("https://{address}").parse().unwrap();
    let config = EndpointConfig { server_name, ..EndpointConfig::new("one", url) };
    let parts = EndpointParts {
        config,
        identity: NodeIdentity {
            node_id: "node-1".into(),
            software: "test/1".into(),
            public_key: "02".repeat(33),
            node_type: NodeType::Bridge,
            region: None,
            auth: None,
        },
        tls: None,
        exchange: Memory::with(0, 0),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        seed: 1,
        settings: EndpointSettings::default(),
        shutdown: CancellationToken::new(),
    };
    let (driver, handle) = EndpointDriver::try_new(parts).unwrap();
    tasks.spawn(driver.with_tls(EndpointTls::Live(source.clone())).run());
    let status = wait_for(&handle, |status| status.state == StateKind::Healthy).await;
    assert_eq!(status.certificate_expires_at, Some(presented.expires_at));

    // The right pins change nothing for who is there already.
    let pins = vec![Pin::new(presented.key_sha256), Pin::new([7; 32])];
    source.change(ClientSettings { pins, ..settings.clone() }).unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let status = handle.status().borrow().clone();
    assert_eq!((status.state, status.attempts), (StateKind::Healthy, 1));

    let pins = vec![Pin::new([8; 32]), Pin::new([9; 32])];
    source.change(ClientSettings { pins, ..settings }).unwrap();
    let status = wait_for(&handle, |status| status.last_error.is_some()).await;
    let states: Vec<_> = status.history.iter().map(|t| t.new.as_str()).collect();
    assert!(states.ends_with(&["healthy", "critical", "reconnecting"]), "{states:?}");
    let error = status.last_error.unwrap();
    assert!(error.starts_with("TLS handshake: ") && error.contains("pin"), "{error}");
}
