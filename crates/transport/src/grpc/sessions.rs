//! The session dialect on a connection that is up: handshake, then the session driver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_protocol::limits;
use alys_stream_protocol::session::RefuseCode;
use alys_stream_protocol::session::{AuthProof, Frame};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::EndpointParts;
use super::core::{Core, now};
use super::dial::Dialed;
use super::error::{GOAWAY, LinkCause, LinkError, Step, going_away};
use super::session_client::stream_service_client::StreamServiceClient;
use crate::connection::{Event, StateKind};
use crate::endpoint::Dialect;
use crate::exchange::{Exchange, PeerLog};
use crate::session::credential::{Credentials, SessionAuth, Stated, expiry};
use crate::session::driver::{self, Control, FRAMES_OUT_MAX, SessionEnd, SessionParts};
use crate::session::features::Features;
use crate::session::handshake::{Limits, Offer, check_rollback, hello, read_welcome, refuse};
use crate::session::{Compression, HandshakeError, Session, SessionConfig, Terms};

/// Orders that may wait for a session.
const CONTROLS_MAX: usize = 64;

struct Opened {
    frames_in: Streaming<Frame>,
    frames_out: mpsc::Sender<Frame>,
    peer: PeerLog,
    terms: Terms,
    /// The proof in our `Hello`.
    shown: Option<AuthProof>,
}

/// Runs sessions on one connection, one after the other as they reach their age; `Ok` when we closed
/// it ourselves.
pub(super) async fn run<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Arc<Core>,
    dialed: Dialed,
    begun: Instant,
) -> Result<(), LinkError> {
    // Another stream of ages at every connection, and the same one for the same seed.
    let attempts = core.subscribe().borrow().attempts;
    let mut rng = fastrand::Rng::with_seed(parts.seed ^ attempts.rotate_left(32));
    let mut opened = establish(parts, core, &dialed).await?;
    core.feed(Event::Accepted);
    core.feed(Event::StreamOpened);
    core.connected(Dialect::Session, now().saturating_duration_since(begun));
    loop {
        let end = drive(parts, core, &dialed, opened, &mut rng).await;
        core.set_controls(None);
        if parts.shutdown.is_cancelled() {
            tracing::debug!(endpoint = %parts.config.name, "session over: {end}");
            return Ok(());
        }
        let polite = matches!(end, SessionEnd::Rotated | SessionEnd::Drained { .. });
        if polite && dialed.probe.is_going_away() {
            return Err(going_away());
        }
        if !matches!(end, SessionEnd::Rotated) || !is_well(core.state()) {
            return Err(ended(end, &dialed));
        }
        tracing::debug!(endpoint = %parts.config.name, "session over: {end}");
        opened = establish(parts, core, &dialed).await?;
        core.feed(Event::StreamRestarted);
    }
}

/// Whether the connection is good enough to carry another stream.
const fn is_well(state: StateKind) -> bool {
    match state {
        StateKind::Streaming | StateKind::Healthy => true,
        StateKind::Disconnected
        | StateKind::Connecting
        | StateKind::Authenticating
        | StateKind::Connected
        | StateKind::Warning
        | StateKind::Critical
        | StateKind::Reconnecting
        | StateKind::Failed
        | StateKind::Suspended => false,
    }
}

/// Opens a stream that both sides agree on.
async fn establish<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Arc<Core>,
    dialed: &Dialed,
) -> Result<Opened, LinkError> {
    let opened = open(parts, dialed).await.inspect_err(|error| {
        if matches!(error.cause, LinkCause::Unimplemented(_)) {
            // The cached answer was wrong, or the peer changed: ask again next time.
            core.set_sessions(false);
        }
    })?;
    if let Err(refusal) = parts.exchange.established(&opened.peer) {
        say(&opened.frames_out, refuse(&refusal)).await;
        return Err(HandshakeError::Refusing(refusal).into());
    }
    core.set_facts(|facts| {
        facts.peer_id = Some(opened.terms.peer_id.clone());
        facts.peer_software = Some(opened.terms.software.clone());
        facts.session_id = Some(opened.terms.session_id.clone());
    });
    Ok(opened)
}

/// Runs one session to its end.
async fn drive<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Arc<Core>,
    dialed: &Dialed,
    opened: Opened,
    rng: &mut fastrand::Rng,
) -> SessionEnd<Status> {
    let (controls, orders) = mpsc::channel(CONTROLS_MAX);
    core.set_controls(Some(controls.clone()));
    let settings = &parts.settings;
    let config = SessionConfig {
        heartbeat: settings.heartbeat,
        acks: settings.acks,
        compression: compression(settings.compression, dialed),
        age: settings.rotation.sample(rng),
    };
    let observer: Arc<Core> = Arc::clone(core);
    let session = SessionParts {
        session: Session::new(now(), opened.terms, config),
        exchange: Arc::clone(&parts.exchange),
        observer,
        clock: Arc::clone(&parts.clock),
        auth: SessionAuth {
            credentials: credentials(parts),
            ours: opened.shown.as_ref().and_then(expiry),
            // A peer has proved itself by its certificate.
            theirs: None,
        },
        controls: orders,
        shutdown: parts.shutdown.clone(),
        drain: settings.drain,
    };
    let running = driver::run(session, opened.frames_in, opened.frames_out);
    tokio::pin!(running);
    tokio::select! {
        biased;
        end = &mut running => return end,
        () = dialed.probe.going_away() => {}
    }
    // The stream may go on; what is in flight finishes, and everything else goes to a connection
    // that the peer wants.
    let drain = Control::Drain { deadline: settings.drain, reason: GOAWAY.to_owned() };
    tokio::select! {
        biased;
        end = &mut running => return end,
        // A session that takes no orders is over.
        sent = controls.send(drain) => drop(sent),
    }
    drop(controls);
    running.await
}

fn credentials<X>(parts: &EndpointParts<X>) -> Arc<dyn Credentials> {
    parts.identity.auth.clone().unwrap_or_else(|| Arc::new(Stated(None)))
}

/// A link that does not leave the machine is faster than any compressor.
const fn compression(configured: Compression, dialed: &Dialed) -> Compression {
    match configured {
        Compression::Auto if dialed.address.ip().is_loopback() => Compression::Off,
        Compression::Off | Compression::Auto | Compression::Always => configured,
    }
}

async fn open<X: Exchange>(parts: &EndpointParts<X>, dialed: &Dialed) -> Result<Opened, LinkError> {
    let limit = parts.settings.step_timeout;
    let zstd = compression(parts.settings.compression, dialed) != Compression::Off;
    let shown = credentials(parts).proof();
    let offer = Offer {
        node_id: parts.identity.node_id.clone(),
        local: parts.exchange.local(),
        cursors: parts.exchange.receive_cursors(),
        features: Features { zstd, ..Features::ALL }.names(),
        software: parts.identity.software.clone(),
        auth: shown.clone(),
        limits: Limits::default(),
    };
    let (frames_out, outgoing) = mpsc::channel(FRAMES_OUT_MAX);
    say(&frames_out, hello(&offer)).await;
    let mut client = StreamServiceClient::new(dialed.channel.clone())
        .max_decoding_message_size(limits::FRAME_BYTES_MAX);
    let failed = |status: &Status| {
        if status.code() == Code::Unimplemented {
            return LinkError::new(Step::Authenticate, LinkCause::Unimplemented("sessions"));
        }
        LinkError::from_status(Step::Authenticate, status, &dialed.probe)
    };
    let handshake = async {
        let answer = client.open(ReceiverStream::new(outgoing)).await;
        let mut frames_in = answer.map_err(|status| failed(&status))?.into_inner();
        let first = frames_in.message().await.map_err(|status| failed(&status))?;
        let closed = LinkError::new(Step::Authenticate, LinkCause::Closed);
        Ok((first.ok_or(closed)?, frames_in))
    };
    let (first, frames_in) = tokio::time::timeout(limit, handshake)
        .await
        .unwrap_or_else(|_| Err(LinkError::new(Step::Authenticate, LinkCause::TimedOut(limit))))?;
    match read_welcome(first, &offer) {
        Ok((peer, terms)) => {
            debug_assert!(check_rollback(offer.local, &peer).is_ok(), "T11");
            let terms = terms.with_heartbeat_near(parts.settings.heartbeat.interval);
            Ok(Opened { frames_in, frames_out, peer, terms, shown })
        }
        Err(error) => {
            if let HandshakeError::Refusing(refusal) | HandshakeError::Refused(refusal) = &error
                && refusal.code == RefuseCode::LogRolledBack
            {
                parts.exchange.rolled_back();
            }
            if let HandshakeError::Refusing(refusal) = &error {
                say(&frames_out, refuse(refusal)).await;
            }
            Err(error.into())
        }
    }
}

/// Sends a frame of the handshake; when nobody takes it the next step shows why.
async fn say(frames_out: &mpsc::Sender<Frame>, frame: Frame) {
    let sent = tokio::time::timeout(Duration::from_secs(1), frames_out.send(frame)).await;
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("a frame of the handshake was not taken");
    }
}

fn ended(end: SessionEnd<Status>, dialed: &Dialed) -> LinkError {
    let cause = match end {
        SessionEnd::Rotated | SessionEnd::Drained { .. } | SessionEnd::Closed => LinkCause::Closed,
        SessionEnd::Lost(status) => {
            return LinkError::from_status(Step::Stream, &status, &dialed.probe);
        }
        SessionEnd::Refused(refusal) | SessionEnd::Refusing(refusal) => LinkCause::Refusal(refusal),
        SessionEnd::Violation(violation) => LinkCause::Violation(violation),
        SessionEnd::Dead(dead) => LinkCause::Dead(dead),
        SessionEnd::NotStored(error) => LinkCause::NotStored(error),
        SessionEnd::Broken(invariant) => LinkCause::Invariant(invariant),
    };
    LinkError::new(Step::Stream, cause)
}
