//! The writing task of a session: waits for room, then chooses what is most urgent.

use std::sync::Arc;

use alys_stream_protocol::session::Frame;
use tokio::sync::mpsc;

use super::{Exchange, Observed, Shared, Written, now};

/// What to do with room for one frame.
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

pub(super) async fn write<X: Exchange>(
    shared: Arc<Shared<X>>,
    frames_out: mpsc::Sender<Frame>,
) -> Written {
    loop {
        // T17: first the room, then the choice.
        let Ok(room) = frames_out.reserve().await else {
            return Written::Gone;
        };
        match choose(&shared) {
            Choice::Send(frame) => room.send(frame),
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

fn choose<X: Exchange>(shared: &Shared<X>) -> Choice {
    let at = now();
    // Read before any batch is taken: `settled_below` must not run ahead of what a batch holds.
    let view = shared.view();
    let budget = {
        let mut session = crate::lock(&shared.session);
        if let Some(frame) = session.poll_frame(at, view) {
            return Choice::Send(frame);
        }
        if session.is_finished(at) {
            return Choice::Finished;
        }
        session.poll_budget()
    };
    let Some(budget) = budget else {
        return Choice::Wait { ready: false };
    };
    let records = shared.exchange.poll_batch(budget);
    if records.is_empty() {
        return Choice::Wait { ready: true };
    }
    let (sent, _) = shared.apply(at, |session| {
        session.handle_send(at, view, &records).map(|frame| (frame, session.in_flight()))
    });
    match sent {
        Ok((Some(frame), in_flight)) => {
            let observed = Observed::Sent { records: &records, in_flight };
            shared.observer.observe(at, observed);
            Choice::Send(frame)
        }
        // Every record was too large for the peer: reported as refused.
        Ok((None, _)) => Choice::Again,
        Err(over_budget) => {
            debug_assert!(false, "{over_budget}");
            Choice::Broken(over_budget.to_string())
        }
    }
}
