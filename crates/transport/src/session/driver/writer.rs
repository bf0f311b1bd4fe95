//! The writing task of a session: waits for room, then chooses what is most urgent.

use std::sync::Arc;
use std::time::Instant;

use alys_stream_protocol::session::{Frame, frame};
use prost::Message as _;
use tokio::sync::mpsc;

use super::ending::Written;
use super::shared::{Owed, Shared};
use super::{Observed, now};
use crate::exchange::{Budget, Exchange};
use crate::session::LocalView;
use crate::session::gauge::Gauge;
use crate::session::squeeze::Squeeze;

/// Parts of a critical record between two batches of any priority: the bytes are 4 to 1.
const CRITICAL_PARTS: u32 = 4;

/// Batches of critical records that may pass one part of a long record: the bytes are 16 to 1, so
/// that it arrives however many of them there are.
const PASSED_MAX: u32 = 16;

/// What to do with room for one frame.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on once; a box would be an allocation for every frame"
)]
enum Choice {
    Send(Frame),
    /// Nothing to send; `ready` says whether data may go out as soon as there is some.
    Wait {
        ready: bool,
    },
    Again,
    Finished,
    Broken(String),
}

/// What a batch came to.
#[expect(
    clippy::large_enum_variant,
    reason = "it is handed on once; a box would be an allocation for every frame"
)]
enum Taken {
    Nothing,
    Batch(Frame),
    /// Every record was kept to leave in parts, or was too large for the peer.
    Kept,
    Broken(String),
}

pub(super) async fn write<X: Exchange>(
    shared: Arc<Shared<X>>,
    frames_out: mpsc::Sender<Frame>,
) -> Written {
    let mut writer = Writer::new(&shared);
    loop {
        let (begun, waits) = (now(), frames_out.capacity() == 0);
        // T17: first the room, then the choice.
        let Ok(room) = frames_out.reserve().await else {
            return Written::Gone;
        };
        writer.handle_room(begun, waits);
        match writer.choose(&shared) {
            Choice::Send(frame) => room.send(writer.pack(frame)),
            Choice::Again => {}
            Choice::Finished => return Written::Finished,
            Choice::Broken(invariant) => return Written::Broken(invariant),
            Choice::Wait { ready } => {
                drop(room);
                tokio::select! {
                    biased;
                    () = shared.wake.notified() => {}
                    () = frames_out.closed() => return Written::Gone,
                    () = shared.exchange.ready(), if ready => {}
                }
            }
        }
    }
}

/// What the writing task knows from one frame to the next.
struct Writer {
    squeeze: Squeeze,
    gauge: Gauge,
    /// Whether the link is measured: it need not be when nothing is ever compressed.
    measures: bool,
    /// Encoded bytes of the last frame.
    last_bytes: usize,
    /// So many parts of long records come before the next batch of any priority.
    parts_owed: u32,
    /// Batches of critical records that have gone before the next part.
    passed: u32,
}

impl Writer {
    fn new<X: Exchange>(shared: &Shared<X>) -> Self {
        let compression = crate::lock(&shared.session).compression();
        Self {
            squeeze: Squeeze::default(),
            gauge: Gauge::new(compression),
            measures: compression == crate::session::Compression::Auto,
            last_bytes: 0,
            parts_owed: 0,
            passed: 0,
        }
    }

    /// There is room for one frame; with `waited` the link took one meanwhile.
    fn handle_room(&mut self, begun: Instant, waited: bool) {
        if self.measures {
            let took = now().saturating_duration_since(begun);
            self.gauge.handle_taken(self.last_bytes, took, waited);
        }
    }

    /// Compresses a batch, when that pays.
    fn pack(&mut self, mut frame: Frame) -> Frame {
        let bytes = if self.measures { frame.encoded_len() } else { 0 };
        self.last_bytes = bytes;
        let Some(frame::Kind::Data(data)) = &mut frame.kind else {
            return frame;
        };
        let bytes = if self.measures { bytes } else { data.encoded_len() };
        if self.gauge.is_worth(bytes) {
            let begun = now();
            if let Some((before, after)) = self.squeeze.compress(data) {
                let took = now().saturating_duration_since(begun);
                self.gauge.handle_compressed(before, after, took);
                self.last_bytes = after.min(before);
            }
        }
        frame
    }

    /// Control frames, then batches and parts of long records in turn; what is critical comes
    /// before a part of what is not.
    fn choose<X: Exchange>(&mut self, shared: &Shared<X>) -> Choice {
        let at = now();
        // Read before any batch is taken: `settled_below` must not run ahead of what a batch holds.
        let view = shared.view();
        let (budget, has_part, has_critical_part) = {
            let mut session = crate::lock(&shared.session);
            if let Some(frame) = session.poll_frame(at, view) {
                return Choice::Send(frame);
            }
            if session.is_finished(at) {
                return Choice::Finished;
            }
            (session.poll_budget(), session.has_part(), session.has_critical_part())
        };
        let part_first = has_part && self.parts_owed > 0;
        let overdue = part_first && self.passed >= PASSED_MAX;
        let budget = match budget {
            Some(_) if overdue => None,
            Some(budget) if part_first => Some(budget.for_critical()),
            budget => budget,
        };
        let ready = budget.is_some();
        match budget.map_or(Taken::Nothing, |budget| take_batch(shared, at, view, budget)) {
            Taken::Batch(frame) if part_first => {
                self.passed += 1;
                return Choice::Send(frame);
            }
            Taken::Batch(frame) => {
                self.parts_owed = if has_critical_part { CRITICAL_PARTS } else { 1 };
                return Choice::Send(frame);
            }
            Taken::Kept => return Choice::Again,
            Taken::Broken(invariant) => return Choice::Broken(invariant),
            Taken::Nothing => {}
        }
        let (part, owed) = {
            let mut session = crate::lock(&shared.session);
            (session.poll_part(at, view), Owed::by(&session))
        };
        match part {
            Some(frame) => {
                shared.progress(at, owed);
                self.parts_owed = self.parts_owed.saturating_sub(1);
                self.passed = 0;
                Choice::Send(frame)
            }
            // Its last long record was withdrawn.
            None if has_part => Choice::Again,
            None => Choice::Wait { ready },
        }
    }
}

fn take_batch<X: Exchange>(
    shared: &Shared<X>,
    at: Instant,
    view: LocalView,
    budget: Budget,
) -> Taken {
    let records = shared.exchange.poll_batch(budget);
    if records.is_empty() {
        return Taken::Nothing;
    }
    let (sent, _) = shared.apply(at, |session| {
        session.handle_send(at, view, &records).map(|frame| (frame, Owed::by(session)))
    });
    match sent {
        Ok((frame, Owed { in_flight, awaited, .. })) => {
            let observed = Observed::Sent { records: &records, in_flight, awaited };
            shared.observer.observe(at, observed);
            frame.map_or(Taken::Kept, Taken::Batch)
        }
        Err(over_budget) => {
            debug_assert!(false, "{over_budget}");
            Taken::Broken(over_budget.to_string())
        }
    }
}
