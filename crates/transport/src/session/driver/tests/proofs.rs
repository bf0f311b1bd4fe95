//! Credentials that expire, on paused time.

use std::sync::atomic::AtomicUsize;

use alys_stream_protocol::session::{AuthProof, AuthScheme};
use alys_stream_protocol::time::UnixMillis;

use super::*;
use crate::session::credential::{Credentials, Stated, expiry};

/// Wall time that goes with the paused clock.
#[derive(Debug)]
struct PausedClock(tokio::time::Instant);

impl WallClock for PausedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000_000).saturating_add(self.0.elapsed())
    }
}

/// Issues proofs of 100 s, as often as there are any left.
#[derive(Debug)]
struct Issuer {
    clock: Arc<PausedClock>,
    left: AtomicUsize,
    issued: AtomicUsize,
}

impl Credentials for Issuer {
    fn proof(&self) -> Option<AuthProof> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .ok()?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        let until = self.clock.now().saturating_add(Duration::from_secs(100));
        Some(AuthProof {
            scheme: AuthScheme::Bearer.into(),
            credential: Bytes::from_static(b"secret"),
            expires_at_ms: UnixMillis::to_wire(Some(until)),
        })
    }

    fn verify(
        &self,
        peer_id: &str,
        proof: Option<&AuthProof>,
    ) -> Result<Option<UnixMillis>, Refusal> {
        Stated(None).verify(peer_id, proof)
    }
}

/// Finds no proof good.
#[derive(Debug)]
struct Strict;

impl Credentials for Strict {
    fn proof(&self) -> Option<AuthProof> {
        None
    }

    fn verify(
        &self,
        peer_id: &str,
        _proof: Option<&AuthProof>,
    ) -> Result<Option<UnixMillis>, Refusal> {
        Err(Refusal::new(RefuseCode::Unauthenticated, format!("{peer_id} is unknown")))
    }
}

/// Runs a node that shows `proofs` of 100 s to a peer; returns both ends, when they came, and how
/// many proofs were issued.
async fn run_with(proofs: usize, judge: Arc<dyn Credentials>) -> (Vec<String>, u64, usize) {
    let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
    let (left, issued) = (AtomicUsize::new(proofs), AtomicUsize::new(0));
    let issuer = Arc::new(Issuer { clock: Arc::clone(&clock), left, issued });
    let first = expiry(&issuer.proof().unwrap());
    let node = SessionAuth {
        credentials: Arc::clone(&issuer) as Arc<dyn Credentials>,
        ours: first,
        theirs: None,
    };
    let peer = SessionAuth { credentials: judge, ours: None, theirs: first };
    let (a_out, b_in) = mpsc::channel(FRAMES_OUT_MAX);
    let (b_out, a_in) = mpsc::channel(FRAMES_OUT_MAX);
    let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
    for (index, (auth, out, incoming)) in
        [(node, a_out, a_in), (peer, b_out, b_in)].into_iter().enumerate()
    {
        let (_, controls) = mpsc::channel(1);
        let parts = SessionParts {
            session: Session::new(now(), terms(Limits::default()), SessionConfig::default()),
            exchange: Memory::with(0, 0),
            observer: Arc::new(Unobserved),
            clock: Arc::clone(&clock) as Arc<dyn WallClock>,
            auth,
            controls,
            shutdown: shutdown.clone(),
            drain: Duration::from_secs(5),
        };
        let frames: Incoming = ReceiverStream::new(incoming).map(Ok).boxed();
        tasks.spawn(async move { (index, run(parts, frames, out).await) });
    }
    let (control, _) = mpsc::channel(1);
    let controls = [control.clone(), control];
    let ends = ends(Running { tasks, shutdown: [shutdown.clone(), shutdown], controls }).await;
    (ends, clock.0.elapsed().as_secs(), issuer.issued.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_as_long_as_its_credential_is_renewed_in_band() {
    let (ends, seconds, issued) = run_with(11, Arc::new(Stated(None))).await;
    assert_eq!(
        ends,
        [
            "refused by the peer: REFUSE_CODE_CREDENTIAL_EXPIRED: the credential of p expired; renew it in band, or open another session with a new one",
            "refused by this side: REFUSE_CODE_CREDENTIAL_EXPIRED: the credential of p expired; renew it in band, or open another session with a new one",
        ],
        "T37"
    );
    // Ten renewals, each when four fifths are over, and the last one runs out.
    assert_eq!((seconds, issued), (10 * 80 + 100, 11), "T38");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_not_good_closes_the_session() {
    let (ends, seconds, _) = run_with(2, Arc::new(Strict)).await;
    assert_eq!(seconds, 80);
    assert_eq!(ends[0], "refused by the peer: REFUSE_CODE_UNAUTHENTICATED: p is unknown");
}
