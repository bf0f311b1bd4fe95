//! What a peer can make this side keep (T15).

use super::*;
use crate::exchange::{Nack, NackOrigin};

/// Every record of a peer is refused, and it takes few of the frames that say so: what waits to be
/// said is no more than one window, however long it goes on.
#[test]
fn refusals_that_wait_to_be_told_are_bounded_by_the_credit() {
    let now = start();
    let mut session = session(now);
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    let window = small().credits.messages;
    let (mut next_seq, mut credit, mut told) = (1, window, 0);
    for _ in 0..200 {
        while credit > 0 {
            let wire = Record::from_message(Seq(next_seq), &message(next_seq, 1));
            session.handle_frame(now, frame::Kind::Data(data(vec![wire])).into()).unwrap();
            let (seq, origin) = (Seq(next_seq), NackOrigin::Local);
            let kind = NackKind::Terminal;
            let nack = Nack { seq, origin, kind, code: 0, text: "no".into() };
            session.handle_refused(now, nack, 1);
            next_seq += 1;
            credit -= 1;
        }
        let waiting = session.control.len();
        assert!(waiting <= usize::try_from(window).unwrap(), "T15: {waiting} refusals wait");
        // It reads two frames, and sends as much as they allow.
        for _ in 0..2 {
            match session.poll_frame(now, view).and_then(|frame| frame.kind) {
                Some(frame::Kind::Credit(more)) => credit += more.messages,
                Some(frame::Kind::Nack(_)) => told += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(told > 200, "it is told, and gets more credit: {told}");
}
