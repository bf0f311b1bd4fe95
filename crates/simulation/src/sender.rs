//! Whoever hands messages over: again and again until they are accepted, as a caller does who wants
//! them to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_actor::{SendError, StreamHandle};
use alys_stream_protocol::governance::{PeginNotification, RequestPriority};
use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::submission::{ApplicationMessage, Submission, submission::Payload};
use alys_stream_protocol::time::{UnixMillis, WallClock as _};
use tokio::sync::watch;

use crate::clock::SkewedClock;
use crate::journal::{Fact, Journal};
use crate::net::Machine;
use crate::node::Life;
use crate::plan::{Content, Spec};
use crate::signing;

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(700);

/// The byte of which payloads are made, and how many of them in a row are surely a payload.
const FILLING: u8 = 0xd7;
const RUN: usize = 24;

/// Those who hand messages to one node, and what was accepted of them. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Senders {
    node: Machine,
    journal: Journal,
    accepted: Arc<Mutex<BTreeMap<u64, (Duration, Seq)>>>,
}

impl Senders {
    pub(crate) fn new(node: Machine, journal: &Journal) -> Self {
        Self { node, journal: journal.clone(), accepted: Arc::default() }
    }

    /// Which messages were accepted, when first, and as what.
    pub(crate) fn accepted(&self) -> BTreeMap<u64, (Duration, Seq)> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, fact: Fact) {
        self.journal.note(self.node, fact);
    }
}

/// Where payloads of messages lie in the bytes of a file.
pub(crate) fn payloads(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + RUN <= bytes.len() {
        let run = bytes.get(at..).unwrap_or_default().iter().take_while(|byte| **byte == FILLING);
        let run = run.count();
        if run >= RUN {
            found.push(at + 1);
        }
        at += run.max(1);
    }
    found
}

/// Hands one message over until it is accepted.
pub(crate) async fn run(
    senders: Senders,
    mut life: watch::Receiver<Life>,
    clock: Arc<SkewedClock>,
    spec: Spec,
    id: MessageId,
) {
    let deadline = spec.deadline.map(|deadline| clock.now().saturating_add(deadline));
    let deadline_ms = UnixMillis::to_wire(deadline);
    senders.note(Fact::Offered { message: spec.number, deadline_ms });
    loop {
        let Ok(Some((number, handle))) = life.wait_for(Option::is_some).await.map(|it| it.clone())
        else {
            return;
        };
        let sending = handle.submit(vec![submission(&spec, id, deadline)]);
        let is_over =
            |now: &Life| now.as_ref().is_none_or(|(now, _): &(u64, StreamHandle)| *now != number);
        // A caller dies with its process.
        let answer = tokio::select! {
            biased;
            _ = life.wait_for(is_over) => continue,
            answer = sending => answer,
        };
        match answer {
            Ok(accepted) => {
                let Some(accepted) = accepted.first() else { return };
                let at = senders.journal.elapsed();
                let mut all = senders.accepted.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(spec.number).or_insert((at, accepted.seq));
                drop(all);
                senders.note(Fact::Accepted {
                    message: spec.number,
                    seq: accepted.seq,
                    is_duplicate: accepted.duplicate,
                });
                return;
            }
            Err(error) => {
                senders.note(Fact::Refused { message: spec.number, why: why(&error) });
                // Its deadline passed: nobody wants it any more.
                if matches!(error, SendError::Invalid { .. }) {
                    return;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

const fn why(error: &SendError) -> &'static str {
    match error {
        SendError::Invalid { .. } => "invalid",
        SendError::TooLarge { .. } => "too large",
        SendError::UnknownKind { .. } => "unknown kind",
        SendError::Backpressure { .. } => "backpressure",
        SendError::Io(_) => "io",
        SendError::Unavailable => "unavailable",
    }
}

fn submission(spec: &Spec, id: MessageId, deadline: Option<UnixMillis>) -> Submission {
    let filling = vec![FILLING; spec.bytes].into();
    let payload = match spec.content {
        Content::Application => {
            Payload::Application(ApplicationMessage { kind: spec.target.kind(), payload: filling })
        }
        Content::Pegin => Payload::PeginNotification(PeginNotification {
            btc_txid: format!("{:064x}", spec.number),
            vout: 0,
            amount: 1,
            evm_address: format!("0x{:040x}", spec.number),
            confirmations: 6,
            extra_data: Some(filling),
        }),
        Content::Signature => Payload::SignatureRequest(signing::request(spec.number)),
    };
    Submission {
        message_id: id.as_bytes().to_vec().into(),
        priority: RequestPriority::from(spec.priority).into(),
        deadline_ms: UnixMillis::to_wire(deadline),
        ordering_key: spec.key.map_or_else(Vec::new, |key| vec![b'k', key]).into(),
        payload: Some(payload),
        ..Submission::default()
    }
}
