//! The driver that reads back what the outbox knows in bits alone, when its turn comes (D7).
//!
//! It also finds out here what an earlier process left behind: a message whose end is stored and
//! that is not settled yet had ended there (D2), and one that no route of today takes is a dead
//! letter. Neither can stay in the way of what is behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_messaging::outbox::{Cause, Loaded, OWN_REFUSAL};
use alys_stream_messaging::record::RecordMeta;
use alys_stream_messaging::refusals::History;
use alys_stream_protocol::message::{MessageId, MessageKind, Seq};
use alys_stream_protocol::signing::SigningTask;

use super::{Delivery, State, Tries};

/// What became of the messages of one request.
#[derive(Debug, Default)]
struct ReadBack {
    loaded: Vec<Loaded>,
    tasks: Vec<(MessageId, Seq, Result<SigningTask, String>)>,
    /// They had ended in an earlier process.
    ended: Vec<Seq>,
    /// No route takes their kind.
    routeless: BTreeMap<Seq, MessageKind>,
    unreadable: Vec<Seq>,
    /// The buffer holds them no more.
    gone: Vec<Seq>,
}

/// Runs until it is aborted.
///
/// # Errors
///
/// When a read panicked.
pub(super) async fn run(delivery: Arc<Delivery>) -> Result<(), String> {
    loop {
        let wanted = delivery.lock().wanted.pop_front();
        let Some(seqs) = wanted else {
            delivery.load.notified().await;
            continue;
        };
        let reader = Arc::clone(&delivery);
        // Off the runtime's threads: what no cache holds is read from the disk, a page of 128
        // messages at a time, and a slow disk must not hold up acknowledgements.
        let reading = delivery.workers.run(move || reader.read_back(seqs));
        let read = reading.await.map_err(|error| format!("reading back: {error}"))?;
        delivery.handle_read_back(read);
    }
}

impl Delivery {
    /// Blocks on the disk.
    fn read_back(&self, seqs: Vec<Seq>) -> ReadBack {
        let mut read = ReadBack::default();
        let mut wanted = seqs.iter().copied().peekable();
        for meta in self.buffer.metas(&seqs) {
            let seq = meta.as_ref().map_or_else(|error| error.seq, |meta| meta.seq);
            while let Some(gone) = wanted.next_if(|wanted| *wanted < seq) {
                read.gone.push(gone);
            }
            wanted.next_if_eq(&seq);
            match meta {
                Ok(meta) => self.sort(meta, &mut read),
                Err(error) => {
                    tracing::error!(%seq, %error, "a message of the backlog cannot be read back");
                    read.unreadable.push(seq);
                }
            }
        }
        read.gone.extend(wanted);
        read
    }

    fn sort(&self, meta: RecordMeta, read: &mut ReadBack) {
        let (seq, id, kind) = (meta.seq, meta.id, meta.kind);
        if self.had_ended(seq, &id) {
            read.ended.push(seq);
            return;
        }
        let Ok(route) = self.router.outbound(kind) else {
            read.routeless.insert(seq, kind);
            return;
        };
        if kind == MessageKind::SIGNATURE_REQUEST {
            read.tasks.push((id, seq, self.signing_task(seq)));
        }
        let history = self.refusals.history(seq).unwrap_or_else(|error| {
            tracing::error!(%seq, %error, "the refusals of a message cannot be read back: it is offered again");
            History::default()
        });
        read.loaded.push(Loaded { meta, route: route.route, history });
    }

    fn handle_read_back(&self, read: ReadBack) {
        let ReadBack { loaded, tasks, ended, routeless, unreadable, gone } = read;
        self.metrics.loaded(u64::try_from(loaded.len()).unwrap_or(u64::MAX));
        let now = self.clock.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        for seq in gone {
            state.outbox.handle_forgotten(seq);
        }
        for seq in ended {
            tracing::debug!(%seq, "ended in an earlier process");
            state.outbox.handle_forgotten(seq);
            state.ended.settled.insert(seq);
        }
        for seq in unreadable {
            state.outbox.handle_unreadable(seq);
        }
        for (seq, kind) in routeless {
            self.die_routeless(state, seq, kind);
        }
        state.outbox.handle_loaded(now, loaded);
        for (id, seq, task) in tasks {
            self.open_collecting(state, id, seq, task);
        }
        self.pump(state);
    }

    /// A kind without a route was refused at `send`, so only another version can have accepted it.
    /// Nobody can be sent it by this one: it is a dead letter, which that other version can replay.
    pub(super) fn die_routeless(&self, state: &mut State, seq: Seq, kind: MessageKind) {
        state.outbox.handle_forgotten(seq);
        let text = format!("this version has no route for its kind {kind}");
        self.die(state, seq, Cause::Refused { code: OWN_REFUSAL, text }, Tries::default());
    }

    /// Whether a message that an earlier process left had ended there: its end is stored, its
    /// settlement was not. Messages of this process end in one go (A7).
    pub(super) fn had_ended(&self, seq: Seq, id: &MessageId) -> bool {
        seq < self.resumed_below && self.final_outcome(id).is_some()
    }
}
