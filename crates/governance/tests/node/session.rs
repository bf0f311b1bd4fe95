//! The session dialect, with the session of the transport on the other end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_stream_governance::{Running, read_ledger};
use alys_stream_protocol::governance::{SignatureStatus, stream_request::Payload, stream_response};
use alys_stream_protocol::limits::EXTRA_DATA_BYTES_MAX;
use alys_stream_protocol::message::{Epoch, MessageId, MessageKind, Seq};
use alys_stream_protocol::session::{AuthProof, AuthScheme, Frame, RefuseCode, frame};
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use alys_stream_transport::exchange::{Exchange as _, NackKind, Refusal};
use alys_stream_transport::session::credential::{Credentials, SessionAuth, expiry};
use alys_stream_transport::session::driver::{self, FRAMES_OUT_MAX, SessionEnd, SessionParts};
use alys_stream_transport::session::features::Features;
use alys_stream_transport::session::handshake::{self, HandshakeError, Limits, Offer, Terms};
use alys_stream_transport::session::{FEATURE, Session, SessionConfig};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::client::{connect, open_session};
use crate::memory::{Node, final_answers, pegins};
use crate::requests::{message, pegin, signature_request};
use crate::world::{LONG, NODE_ID, World, stop};

/// How a node opens a session.
pub(crate) struct Opening {
    features: Vec<String>,
    auth: SessionAuth,
    /// Parts of long records that it sent.
    parts: Arc<AtomicUsize>,
}

impl Default for Opening {
    /// As a node did before there were features.
    fn default() -> Self {
        let features = vec![FEATURE.to_owned()];
        Self { features, auth: SessionAuth::none(), parts: Arc::default() }
    }
}

/// Opens a session of `node`; it runs until `shutdown` or its end.
pub(crate) async fn session(
    world: &World,
    running: &Running,
    node: Arc<Node>,
    shutdown: CancellationToken,
) -> Result<SessionEnd<Status>, HandshakeError> {
    session_as(world, running, node, shutdown, Opening::default()).await
}

/// A stream, what was agreed on it, and until when the proof shown is good.
pub(crate) async fn greet(
    world: &World,
    running: &Running,
    node: &Node,
    opening: &Opening,
) -> Result<(crate::client::Session, Terms, Option<UnixMillis>), HandshakeError> {
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut stream = open_session(&channel).await;
    let offer = Offer {
        node_id: NODE_ID.to_owned(),
        local: node.local(),
        cursors: node.receive_cursors(),
        features: opening.features.clone(),
        software: "test".to_owned(),
        auth: opening.auth.credentials.proof(),
        limits: Limits::default(),
    };
    stream.requests.send(handshake::hello(&offer)).await.unwrap();
    let first = tokio::time::timeout(LONG, stream.responses.message())
        .await
        .unwrap()
        .unwrap()
        .expect("an answer");
    let (peer, terms) = handshake::read_welcome(first, &offer)?;
    node.established(&peer).unwrap();
    Ok((stream, terms, offer.auth.as_ref().and_then(expiry)))
}

async fn session_as(
    world: &World,
    running: &Running,
    node: Arc<Node>,
    shutdown: CancellationToken,
    opening: Opening,
) -> Result<SessionEnd<Status>, HandshakeError> {
    let (stream, terms, ours) = greet(world, running, &node, &opening).await?;
    let auth = SessionAuth { ours, ..opening.auth };
    let (frames_out, mut frames) = mpsc::channel::<Frame>(FRAMES_OUT_MAX);
    let now = tokio::time::Instant::now().into_std();
    let (_orders, controls) = mpsc::channel(1);
    let parts = SessionParts {
        session: Session::new(now, terms, SessionConfig::default()),
        exchange: Arc::clone(&node),
        observer: node,
        clock: Arc::new(SystemClock),
        auth,
        controls,
        shutdown,
        drain: Duration::from_secs(5),
    };
    let requests = stream.requests;
    let forward = async move {
        while let Some(frame) = frames.recv().await {
            let is_part = matches!(frame.kind, Some(frame::Kind::Chunk(_)));
            opening.parts.fetch_add(usize::from(is_part), Ordering::Relaxed);
            if requests.send(frame).await.is_err() {
                return;
            }
        }
    };
    let (end, ()) = tokio::join!(driver::run(parts, stream.responses, frames_out), forward);
    Ok(end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_records_and_a_cut_are_each_applied_once() {
    let world = World::with_extra("misbehave: { disconnect_mid_batch: { after_records: 333 } }\n");
    let running = world.start().await;
    let mut messages = pegins(980);
    for _ in 0..20 {
        let request = Payload::SignatureRequest(signature_request(&world.federation(), 2, 2));
        messages.push(message(MessageKind::SIGNATURE_REQUEST, request));
    }
    let node = Node::new(messages);

    let cut = session(&world, &running, Arc::clone(&node), CancellationToken::new()).await.unwrap();
    assert!(matches!(cut, SessionEnd::Lost(_) | SessionEnd::Closed), "{cut}");
    let settled = node.progress.borrow().settled.len();
    assert!(settled <= 333, "{settled} acknowledged, 333 got through");

    let shutdown = CancellationToken::new();
    let done = async {
        let progress =
            node.until(|p| p.settled.len() == 1000 && final_answers(p).len() == 20).await;
        shutdown.cancel();
        progress
    };
    let (end, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    assert!(matches!(end, Ok(SessionEnd::Drained { by_peer: false })), "{end:?}");
    // What was not durable yet when the node came back is sent again.
    let resumed = progress.resumed;
    assert!((settled as u64..=333).contains(&resumed), "resumed at {resumed}, {settled} settled");
    let answered: BTreeSet<String> =
        final_answers(&progress).into_iter().map(|(id, _)| id).collect();
    assert_eq!(answered.len(), 20);

    let shown = crate::admin::get(running.admin_addr(), "/ledger").await;
    assert_eq!(shown["applied"]["messages"], 1000, "{shown}");
    assert_eq!(shown["applied"]["twice"], 0);
    assert_eq!(
        shown["applied"]["by_kind"],
        json!({"pegin_notification": 980, "signature_request": 20})
    );
    stop(running).await;
    let ledger = read_ledger(&world.data_dir()).unwrap();
    assert_eq!(ledger.len(), 1000);
    assert!(ledger.iter().all(|(_, count)| *count == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_signed_is_signed_after_a_restart_once() {
    let world = World::new();
    let mut config = world.config();
    config.misbehave.delay_ms = 600_000;
    let running = alys_stream_governance::GovernanceNode::start(config).await.unwrap();
    let mut request = signature_request(&world.federation(), 2, 2);
    request.timeout_seconds = None;
    let node = Node::new(vec![message(
        MessageKind::SIGNATURE_REQUEST,
        Payload::SignatureRequest(request),
    )]);
    let shutdown = CancellationToken::new();
    let pending = async {
        let progress = node.until(|p| !p.answers.is_empty() && !p.settled.is_empty()).await;
        shutdown.cancel();
        progress
    };
    let (_, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), pending);
    assert_eq!(
        (progress.answers.len(), final_answers(&progress).len()),
        (1, 0),
        "only PENDING so far"
    );
    stop(running).await;

    let running = world.start().await;
    let shutdown = CancellationToken::new();
    let answered = async {
        let progress = node.until(|p| !final_answers(p).is_empty()).await;
        shutdown.cancel();
        progress
    };
    let (_, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), answered);
    assert_eq!(progress.resumed, 1);
    assert_eq!(final_answers(&progress)[0].1, i32::from(SignatureStatus::Partial));
    assert_eq!(progress.answers.len(), 2, "PENDING once, PARTIAL once");
    stop(running).await;
    assert_eq!(read_ledger(&world.data_dir()).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_process_and_an_old_copy_are_fenced() {
    let world = World::new();
    let running = world.start().await;
    let with_epoch = |epoch, count| {
        let mut node = Node::new(pegins(count));
        Arc::get_mut(&mut node).unwrap().epoch = Epoch(epoch);
        node
    };
    let node = with_epoch(5, 10);
    let shutdown = CancellationToken::new();
    let done = async {
        node.until(|p| p.settled.len() == 10).await;
        shutdown.cancel();
    };
    let (end, ()) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    end.unwrap();
    for (node, expected) in
        [(with_epoch(4, 20), RefuseCode::StaleEpoch), (with_epoch(6, 5), RefuseCode::LogRolledBack)]
    {
        let refused = session(&world, &running, node, CancellationToken::new()).await.unwrap_err();
        let HandshakeError::Refused(refusal) = refused else { panic!("{refused}") };
        assert_eq!(refusal.code, expected, "{refusal}");
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swallowed_acknowledgements_lose_and_repeat_nothing() {
    let world = World::with_extra("misbehave: { drop_acks: true }\n");
    let running = world.start().await;
    let admin = running.admin_addr();
    let node = Node::new(pegins(10));
    let applied = async {
        while crate::admin::get(admin, "/ledger").await["applied"]["messages"] != 10 {
            tokio::task::yield_now().await;
        }
        crate::admin::post(admin, "/misbehave", &json!({"close": true})).await;
    };
    let (_, ()) = tokio::join!(
        session(&world, &running, Arc::clone(&node), CancellationToken::new()),
        applied
    );
    assert!(node.progress.borrow().settled.is_empty(), "no acknowledgement came");

    crate::admin::post(admin, "/misbehave", &json!({"drop_acks": false})).await;
    let shutdown = CancellationToken::new();
    let done = async {
        let progress = node.until(|p| p.settled.len() == 10).await;
        shutdown.cancel();
        progress
    };
    let (_, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    assert_eq!(progress.resumed, 10, "all were stored");
    assert_eq!(crate::admin::get(admin, "/ledger").await["applied"]["messages"], 10);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_refuses_pushes_and_drains_as_told() {
    let world = World::with_extra("misbehave: { refuse: terminal }\n");
    let running = world.start().await;
    let admin = running.admin_addr();
    let mut messages = pegins(1);
    messages.push(message(MessageKind::SIGNATURE_REQUEST, pegin(1)));
    let node = Node::new(messages);
    let told = async {
        let progress = node.until(|p| p.refused.len() == 2).await;
        assert!(progress.refused.iter().all(|(_, kind)| *kind == NackKind::Terminal));
        let pushed = crate::admin::post(admin, "/push/halt", &json!({"version": 3})).await;
        assert_eq!(pushed["nodes"], 1);
        let progress = node.until(|p| !p.answers.is_empty()).await;
        let halt = progress.answers[0].payload.clone();
        assert!(matches!(halt, Some(stream_response::Payload::FederationUpdate(_))), "{halt:?}");
        crate::admin::post(
            admin,
            "/misbehave",
            &json!({"refuse": null, "drain": {"deadline_ms": 2000}}),
        )
        .await;
    };
    let (end, ()) =
        tokio::join!(session(&world, &running, Arc::clone(&node), CancellationToken::new()), told);
    assert!(matches!(end, Ok(SessionEnd::Drained { by_peer: true })), "{end:?}");

    // A push for a node that is away waits for it; a record that lies about its kind is refused.
    crate::admin::post(admin, "/push/proposal", &json!({"proposal_id": "p-1"})).await;
    let shutdown = CancellationToken::new();
    let done = async {
        let progress = node
            .until(|p| p.answers.len() == 2 && p.refused.len() == 3 && p.settled.len() == 1)
            .await;
        shutdown.cancel();
        progress
    };
    let (_, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    assert_eq!(progress.settled, BTreeSet::from([Seq(1)]));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_dialects_share_one_ledger() {
    let world = World::new();
    let running = world.start().await;
    let node = Node::new(pegins(1));
    let shutdown = CancellationToken::new();
    let done = async {
        node.until(|p| p.settled.len() == 1).await;
        shutdown.cancel();
    };
    let (end, ()) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), done);
    end.unwrap();
    let id: MessageId = node.messages[&Seq(1)].id;

    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut plain = crate::client::open_plain(&channel).await;
    plain.ask(crate::requests::registration()).await;
    let ack = plain.ask(crate::requests::request(&id.to_string(), pegin(1))).await;
    assert_eq!(ack.payload, None);
    stop(running).await;
    assert_eq!(read_ledger(&world.data_dir()).unwrap(), [(id, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_suspends_and_resumes_as_told() {
    let world = World::with_extra("misbehave: { suspended: true }\n");
    let running = world.start().await;
    let node = Node::new(pegins(5));
    let shutdown = CancellationToken::new();
    let told = async {
        node.until(|p| p.suspended.0 == 1).await;
        crate::admin::post(running.admin_addr(), "/misbehave", &json!({"resume": true})).await;
        let progress = node.until(|p| p.settled.len() == 5 && p.suspended.1 == 1).await;
        crate::admin::post(running.admin_addr(), "/misbehave", &json!({"suspend": true})).await;
        node.until(|p| p.suspended.0 == 2).await;
        shutdown.cancel();
        progress
    };
    let (end, _) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), told);
    assert!(matches!(end, Ok(SessionEnd::Drained { by_peer: false })), "{end:?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_session_of_a_node_counts() {
    let world = World::new();
    let running = world.start().await;
    let (older, newer) = (Node::new(pegins(3)), Node::new(pegins(3)));
    let shutdown = CancellationToken::new();
    let second = async {
        older.until(|p| p.settled.len() == 3).await;
        let settled = async {
            newer.until(|p| p.settled.len() == 3).await;
        };
        let end = session(&world, &running, Arc::clone(&newer), shutdown.clone());
        let (end, ()) = tokio::join!(end, async {
            settled.await;
            shutdown.cancel();
        });
        end.unwrap()
    };
    let first = session(&world, &running, Arc::clone(&older), CancellationToken::new());
    let (first, _) =
        Box::pin(tokio::time::timeout(LONG, async { tokio::join!(first, second) })).await.unwrap();
    assert!(!matches!(first, Ok(SessionEnd::Drained { .. })), "{first:?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_refused_for_now_comes_again() {
    let world = World::new();
    let running = world.start().await;
    let request = Payload::SignatureRequest(signature_request(&world.federation(), 1, 2));
    let node = Node::new(vec![message(MessageKind::SIGNATURE_REQUEST, request)]);
    node.refusals.store(3, Ordering::SeqCst);
    let shutdown = CancellationToken::new();
    let answered = async {
        let progress = node.until(|p| !p.answers.is_empty()).await;
        shutdown.cancel();
        progress
    };
    let (_, progress) =
        tokio::join!(session(&world, &running, Arc::clone(&node), shutdown.clone()), answered);
    assert_eq!(final_answers(&progress).len(), 1);
    assert_eq!(node.refusals.load(Ordering::SeqCst), 0);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_records_arrive_in_parts_and_are_applied_once() {
    let world = World::new();
    let running = world.start().await;
    let long = |amount| {
        let Payload::PeginNotification(mut notification) = pegin(amount) else {
            panic!("a peg-in");
        };
        notification.extra_data = Some(vec![7; EXTRA_DATA_BYTES_MAX].into());
        message(MessageKind::PEGIN_NOTIFICATION, Payload::PeginNotification(notification))
    };
    let node = Node::new((1..=20).map(long).chain(pegins(50)).collect());
    let (shutdown, opening) = (CancellationToken::new(), Opening::default());
    let parts = Arc::clone(&opening.parts);
    let opening = Opening { features: Features::ALL.names(), ..opening };
    let done = async {
        node.until(|p| p.settled.len() == 70).await;
        shutdown.cancel();
    };
    let opened = session_as(&world, &running, Arc::clone(&node), shutdown.clone(), opening);
    let (end, ()) = tokio::join!(opened, done);
    assert!(matches!(end, Ok(SessionEnd::Drained { by_peer: false })), "{end:?}");
    assert_eq!(parts.load(Ordering::Relaxed), 40);
    stop(running).await;
    let ledger = read_ledger(&world.data_dir()).unwrap();
    assert_eq!(ledger.len(), 70);
    assert!(ledger.iter().all(|(_, count)| *count == 1));
}

/// Issues proofs that are good for so long, as often as there are any left.
#[derive(Debug)]
struct Issuer {
    left: AtomicUsize,
    lasts: Duration,
}

impl Credentials for Issuer {
    fn proof(&self) -> Option<AuthProof> {
        let one_less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        Some(AuthProof {
            scheme: AuthScheme::Bearer.into(),
            expires_at_ms: UnixMillis::to_wire(Some(SystemClock.now().saturating_add(self.lasts))),
            ..AuthProof::default()
        })
    }

    fn verify(&self, _: &str, _: Option<&AuthProof>) -> Result<Option<UnixMillis>, Refusal> {
        Ok(None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_credential_unless_that_is_renewed_in_band() {
    let world = World::new();
    let running = world.start().await;
    let open = |proofs, lasts| {
        let credentials = Arc::new(Issuer { left: AtomicUsize::new(proofs), lasts });
        let auth = SessionAuth { credentials, ours: None, theirs: None };
        let opening = Opening { auth, ..Opening::default() };
        session_as(&world, &running, Node::new(pegins(1)), CancellationToken::new(), opening)
    };
    let refused = open(1, Duration::ZERO).await.unwrap_err();
    let HandshakeError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.code, RefuseCode::CredentialExpired, "{refusal}");

    let begun = tokio::time::Instant::now();
    let end = open(2, Duration::from_millis(1500)).await;
    let Ok(SessionEnd::Refused(refusal)) = end else { panic!("{end:?}") };
    assert_eq!(refusal.code, RefuseCode::CredentialExpired, "{refusal}");
    // Renewed after 1.2 s, for another 1.5 s.
    assert!(begun.elapsed() >= Duration::from_millis(2600), "{:?}", begun.elapsed());
    stop(running).await;
}
