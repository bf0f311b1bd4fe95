//! Walks to peers of every kind: each is stopped by the step that is wrong, with its cause.

use super::sessions::serve_tls;
use super::*;
use crate::endpoint::Dialect;

fn identity() -> NodeIdentity {
    NodeIdentity {
        node_id: "node-1".into(),
        software: "test/1".into(),
        public_key: "02".repeat(33),
        node_type: NodeType::Bridge,
        region: None,
        auth: None,
    }
}

async fn walked(config: &EndpointConfig, tls: Option<&EndpointTls>, depth: WalkDepth) -> Walk {
    let limit = Duration::from_secs(2);
    let settings = EndpointSettings {
        address_timeout: limit,
        step_timeout: limit,
        ..EndpointSettings::default()
    };
    walk(WalkParts { config, identity: &identity(), tls, settings, depth }).await
}

/// One line for each step, without times, ports and random names.
fn shown(walk: &Walk) -> String {
    let port = walk.url.rsplit(':').next().unwrap_or_default().to_owned();
    let mut lines = String::new();
    for walked in &walk.steps {
        let what = match &walked.outcome {
            WalkOutcome::Passed { detail } => format!("passed: {detail}"),
            WalkOutcome::Failed { class, cause, is_permanent } => {
                let permanent = if *is_permanent { ", permanent" } else { "" };
                format!("FAILED ({class}{permanent}): {cause}")
            }
            WalkOutcome::Skipped { reason } => format!("skipped: {reason}"),
        };
        let what = what.split(" after ").next().unwrap_or_default().replace(&port, "PORT");
        lines.push_str(&format!("{}: {what}\n", walked.step));
        let is_skipped = matches!(walked.outcome, WalkOutcome::Skipped { .. });
        assert_eq!(walked.took_us == 0, is_skipped, "T48: {walked:?}");
    }
    assert_eq!(walk.steps.len(), 7, "T48");
    lines
}

fn peer(sessions: bool) -> Peer {
    Peer { sessions, exchange: Memory::with(0, 0), shutdown: CancellationToken::new() }
}

#[tokio::test]
async fn a_good_peer_passes_every_step_and_keeps_what_it_wants_to_say() {
    let mut tasks = JoinSet::new();
    // It has messages for the node, which a walk must not take away.
    let far = Memory::with(5, 100);
    let address = serve(&mut tasks, Peer { exchange: Arc::clone(&far), ..peer(true) }).await;
    let walk = walked(&plaintext(address), None, WalkDepth::Session).await;
    expect_test::expect![[r#"
        name resolution: passed: 127.0.0.1 is 127.0.0.1:PORT
        TCP connect: passed: connected to 127.0.0.1:PORT
        TLS handshake: skipped: insecure: plaintext is configured
        HTTP/2: passed: the preface was sent
        capabilities: passed: the dialect is session
        authentication: passed: accepted by gov-1 (test/1)
        stream: passed: a heartbeat was answered
    "#]]
    .assert_eq(&shown(&walk));
    assert!(walk.passed);
    assert_eq!((walk.dialect, walk.peer_id.as_deref()), (Some(Dialect::Session), Some("gov-1")));
    assert!(crate::lock(&far.acked).is_empty(), "nothing was taken");
    let json = serde_json::to_value(&walk).unwrap();
    assert_eq!(json["steps"][5]["step"], "authenticate");
    assert_eq!(json["steps"][5]["outcome"]["result"], "passed");
}

#[tokio::test]
async fn a_plain_peer_passes_and_a_walk_may_end_before_the_session() {
    let mut tasks = JoinSet::new();
    let address = serve(&mut tasks, peer(false)).await;
    let walk = walked(&plaintext(address), None, WalkDepth::Session).await;
    assert!(walk.passed, "{walk:?}");
    assert_eq!(walk.dialect, Some(Dialect::Plain));
    let walk = walked(&plaintext(address), None, WalkDepth::Capabilities).await;
    assert!(walk.passed, "{walk:?}");
    expect_test::expect![[r#"
        name resolution: passed: 127.0.0.1 is 127.0.0.1:PORT
        TCP connect: passed: connected to 127.0.0.1:PORT
        TLS handshake: skipped: insecure: plaintext is configured
        HTTP/2: passed: the preface was sent
        capabilities: passed: the dialect is plain
        authentication: skipped: not wanted
        stream: skipped: not wanted
    "#]]
    .assert_eq(&shown(&walk));
}

#[tokio::test]
async fn tls_is_walked_with_its_certificates() {
    let authority = Authority::new("Test CA");
    let (server, node) = (authority.issue("gov-1", &["localhost"]), authority.issue("node-1", &[]));
    let authorities = [authority.as_pem()];
    let server = tls::server_config(server.identity(), &authorities).unwrap();
    let mut tasks = JoinSet::new();
    let address = serve_tls(&mut tasks, peer(true), server).await;
    let url: crate::endpoint::EndpointUrl = format!("https://{address}").parse().unwrap();
    let server_name = Some("localhost".to_owned());
    let config = EndpointConfig { server_name, ..EndpointConfig::new("one", url.clone()) };
    let fixed = |authorities, identity| {
        EndpointTls::Fixed(tls::client_config(authorities, identity).unwrap())
    };
    let private = tls::Authorities::Private(&authorities);
    let good = fixed(private, Some(node.identity()));
    let walk = walked(&config, Some(&good), WalkDepth::Session).await;
    assert!(walk.passed, "{walk:?}");
    assert!(walk.certificate_expires_at.is_some());
    let unnamed = fixed(private, None);
    let walk = walked(&config, Some(&unnamed), WalkDepth::Session).await;
    expect_test::expect![[r#"
        name resolution: passed: 127.0.0.1 is 127.0.0.1:PORT
        TCP connect: passed: connected to 127.0.0.1:PORT
        TLS handshake: passed: TLS 1.3 with localhost by X25519MLKEM768, ALPN h2
        HTTP/2: passed: the preface was sent
        capabilities: FAILED (auth, permanent): capabilities: a client certificate is required and none was shown; configure certificate and key
        authentication: skipped: not reached: capabilities failed
        stream: skipped: not reached: capabilities failed
    "#]]
    .assert_eq(&shown(&walk));
    let other = Authority::new("Other CA");
    let strangers = [other.as_pem()];
    let stranger = fixed(tls::Authorities::Private(&strangers), Some(node.identity()));
    let walk = walked(&config, Some(&stranger), WalkDepth::Session).await;
    assert_eq!(walk.failed_step, Some(Step::Tls), "{walk:?}");
    let misnamed = EndpointConfig::new("one", url);
    let walk = walked(&misnamed, Some(&good), WalkDepth::Session).await;
    assert_eq!(walk.failed_step, Some(Step::Tls), "{walk:?}");
}

#[tokio::test]
async fn peers_that_are_none_fail_the_step_that_shows_it() {
    let mut tasks = JoinSet::new();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let walk = walked(&plaintext(nobody), None, WalkDepth::Session).await;
    expect_test::expect![[r#"
        name resolution: passed: 127.0.0.1 is 127.0.0.1:PORT
        TCP connect: FAILED (connection): TCP connect (127.0.0.1:PORT): connection refused: nobody listens there; start the peer or check the port
        TLS handshake: skipped: not reached: TCP connect failed
        HTTP/2: skipped: not reached: TCP connect failed
        capabilities: skipped: not reached: TCP connect failed
        authentication: skipped: not reached: TCP connect failed
        stream: skipped: not reached: TCP connect failed
    "#]]
    .assert_eq(&shown(&walk));
    let http1 = foreign(&mut tasks, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let walk = walked(&plaintext(http1), None, WalkDepth::Session).await;
    assert_eq!(walk.failed_step, Some(Step::Capabilities));
    let url = "https://no-such-host.invalid:1".parse().unwrap();
    let walk = walked(&EndpointConfig::new("one", url), None, WalkDepth::Session).await;
    assert_eq!((walk.failed_step, walk.passed), (Some(Step::Resolve), false));
    let mute = foreign(&mut tasks, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    let walk = walked(&plaintext(mute), None, WalkDepth::Session).await;
    assert_eq!(walk.failed_step, Some(Step::Capabilities), "{walk:?}");
}
