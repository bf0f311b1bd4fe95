//! The reading task of a session: frames in, records to store, timers, orders.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::Frame;
use futures::stream::FuturesOrdered;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::shared::{Fed, Shared};
use super::{Control, RECEIVES_MAX, SessionEnd, now};
use crate::exchange::{Exchange, InboundRecord, Nack, ReceiveError, Verdict};
use crate::session::{Inflate, SessionViolation};

/// When and how to close politely.
pub(super) struct Order {
    pub(super) shutdown: CancellationToken,
    pub(super) drain: Duration,
}

/// A batch that was handed over: its numbers and sizes, and what became of each record.
type Stored = (Vec<(Seq, u64)>, Result<Vec<Verdict>, ReceiveError>);
type Storing = FuturesOrdered<Pin<Box<dyn Future<Output = Stored> + Send>>>;

#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box is made per frame"
)]
enum Step<E> {
    Shutdown,
    Stored(Stored),
    Control(Option<Control>),
    Timeout,
    Frame(Option<Result<Frame, E>>),
}

pub(super) async fn read<S, E, X>(
    shared: Arc<Shared<X>>,
    mut frames: S,
    mut controls: mpsc::Receiver<Control>,
    order: Order,
) -> SessionEnd<E>
where
    S: Stream<Item = Result<Frame, E>> + Send + Unpin,
    X: Exchange,
{
    let mut storing = Storing::new();
    let mut inflate = Inflate::default();
    let (mut controlled, mut closing) = (true, false);
    loop {
        let wake_at = crate::lock(&shared.session).poll_timeout();
        let step = tokio::select! {
            biased;
            () = order.shutdown.cancelled(), if !closing => Step::Shutdown,
            Some(stored) = storing.next(), if !storing.is_empty() => Step::Stored(stored),
            control = controls.recv(), if controlled => Step::Control(control),
            () = tokio::time::sleep_until(wake_at.into()) => Step::Timeout,
            frame = frames.next(), if storing.len() < RECEIVES_MAX => Step::Frame(frame),
        };
        let fed = match step {
            Step::Shutdown => {
                closing = true;
                let reason = "this side shuts down".to_owned();
                shared.feed(now(), |s| s.handle_drain(now(), order.drain, reason)).1
            }
            Step::Stored((_, Err(error))) => return SessionEnd::NotStored(error),
            Step::Stored((records, Ok(verdicts))) => {
                settle(&shared, &records, verdicts, storing.is_empty())
            }
            Step::Control(None) => {
                controlled = false;
                continue;
            }
            Step::Control(Some(Control::Refuse(refusal))) => return SessionEnd::Refusing(refusal),
            Step::Control(Some(control)) => obey(&shared, control),
            Step::Timeout => {
                let (alive, fed) = shared.feed(now(), |s| s.handle_timeout(now()));
                match alive {
                    Ok(()) => fed,
                    Err(dead) => return SessionEnd::Dead(dead),
                }
            }
            Step::Frame(None) => return SessionEnd::Closed,
            Step::Frame(Some(Err(error))) => return SessionEnd::Lost(error),
            Step::Frame(Some(Ok(frame))) => match take(&shared, &mut inflate, frame) {
                Ok(fed) => fed,
                Err(violation) => return SessionEnd::Violation(violation),
            },
        };
        let Fed { received, refused, refusing } = fed;
        if let Some(refusal) = refused {
            return SessionEnd::Refused(refusal);
        }
        if let Some(refusal) = refusing {
            return SessionEnd::Refusing(refusal);
        }
        for records in received {
            storing.push_back(store(Arc::clone(&shared.exchange), records));
        }
    }
}

/// Takes one frame; a compressed batch is inflated first, while the machine is free.
fn take<X: Exchange>(
    shared: &Shared<X>,
    inflate: &mut Inflate,
    mut frame: Frame,
) -> Result<Fed, SessionViolation> {
    inflate.inflate_frame(&mut frame, || crate::lock(&shared.session).inflated_bytes_max())?;
    let (taken, fed) = shared.feed(now(), |session| session.handle_frame(now(), frame));
    taken.map(|()| fed)
}

/// Hands a batch over. `FuturesOrdered` polls what it is given in the order it was given, so the
/// owner sees the batches in the order of the wire.
fn store<X: Exchange>(
    exchange: Arc<X>,
    records: Vec<InboundRecord>,
) -> Pin<Box<dyn Future<Output = Stored> + Send>> {
    let sizes = records
        .iter()
        .map(|r| (r.seq, u64::try_from(r.message.payload.len()).unwrap_or(u64::MAX)))
        .collect();
    Box::pin(async move { (sizes, exchange.receive(records).await) })
}

/// Takes in what became of a batch; with `is_last` nothing else is being stored.
fn settle<X: Exchange>(
    shared: &Shared<X>,
    records: &[(Seq, u64)],
    mut verdicts: Vec<Verdict>,
    is_last: bool,
) -> Fed {
    debug_assert_eq!(records.len(), verdicts.len(), "one verdict for each record");
    // A record without a verdict is not acknowledged: the peer sends it again in another session.
    verdicts.resize(
        records.len(),
        Verdict::Refused {
            kind: crate::exchange::NackKind::Retry { after: None },
            code: 0,
            text: "no verdict".to_owned(),
        },
    );
    let at = now();
    shared
        .feed(at, |session| {
            for ((seq, bytes), verdict) in records.iter().zip(verdicts) {
                match verdict {
                    Verdict::Stored => session.handle_stored(at, *seq, *bytes),
                    Verdict::Refused { kind, code, text } => {
                        let (seq, origin) = (*seq, crate::exchange::NackOrigin::Local);
                        let nack = Nack { seq, origin, kind, code, text };
                        session.handle_refused(at, nack, *bytes);
                    }
                }
            }
            if is_last {
                session.handle_all_stored(at);
            }
        })
        .1
}

fn obey<X: Exchange>(shared: &Shared<X>, control: Control) -> Fed {
    let (at, wall) = (now(), shared.clock.now());
    if let Control::AuthRefresh(proof) = &control {
        shared.auth.shown(proof);
    }
    shared
        .feed(at, |session| match control {
            Control::Suspend { reason } => session.handle_suspend(reason),
            Control::Resume { reason } => session.handle_resume(reason),
            Control::Drain { deadline, reason } => session.handle_drain(at, deadline, reason),
            Control::Refuse(refusal) => session.handle_refuse(&refusal),
            Control::AuthRefresh(auth) => session.handle_auth_refresh(at, wall, auth),
            Control::Gap { range, cause, text } => session.handle_gap(&range, cause, text),
            Control::Stored(seqs) => {
                for seq in seqs {
                    session.handle_stored_late(at, seq);
                }
            }
        })
        .1
}
