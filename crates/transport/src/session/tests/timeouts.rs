//! Acknowledgements that do not come.

use super::*;

#[test]
fn a_lost_acknowledgement_ends_the_session_however_lively_it_is() {
    let begin = start();
    let mut near = session(begin);
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    let seconds = |n| begin + Duration::from_secs(n);
    let beat = |near: &mut Session, at| {
        // Its heartbeats are answered: it is alive in every other way.
        while let Some(frame) = near.poll_frame(at, view) {
            if let Some(frame::Kind::Heartbeat(beat)) = frame.kind {
                let ack = session::HeartbeatAck { sequence: beat.sequence, ..Default::default() };
                near.handle_frame(at, frame::Kind::HeartbeatAck(ack).into()).unwrap();
            }
        }
    };
    near.handle_send(begin, view, &[record(2, 1), record(1, 1)]).unwrap();
    near.handle_send(seconds(10), view, &[record(3, 1)]).unwrap();
    let ack = session::Ack { ack_id: 1, ranges: vec![session::SeqRange { first: 2, last: 3 }] };
    near.handle_frame(seconds(11), frame::Kind::Ack(ack).into()).unwrap();
    for n in 0..30 {
        near.handle_timeout(seconds(n)).unwrap();
        beat(&mut near, seconds(n));
    }
    assert!(near.poll_timeout() <= seconds(30));
    let dead = near.handle_timeout(seconds(30)).unwrap_err();
    assert_eq!(dead, Dead::Unacknowledged { seq: Seq(1), waited: Duration::from_secs(30) }, "T32");
}

#[test]
fn a_record_that_is_worked_on_may_take_its_time() {
    let begin = start();
    let mut near = session(begin);
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    near.handle_send(begin, view, &[record(1, 1)]).unwrap();
    let kind = session::NackKind::InProgress.into();
    let nack = session::Nack { seq: 1, kind, ..Default::default() };
    near.handle_frame(begin, frame::Kind::Nack(nack).into()).unwrap();
    let later = begin + Duration::from_secs(31);
    near.handle_timeout(later).unwrap();
    assert_eq!(near.in_flight(), 1, "T32");
}
