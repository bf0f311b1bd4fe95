//! What stops a handshake, and what it leaves out.

use super::*;

#[test]
fn a_log_that_was_rolled_back_stops_the_handshake() {
    let mut sides = [Side::new(1, 2), Side::new(2, 1)];
    sides[1].received.insert(Seq(5));
    sides[1].highest_seen = 5;
    let peer = PeerLog {
        peer_id: "gov".into(),
        log_id: sides[1].log_id,
        opening: Epoch(1).into(),
        next_seq: Seq(1),
        settled_below: Seq(1),
        received: sides[1].received.clone(),
        highest_seen: Seq(5),
        seen: Opening::NONE,
        forgotten: Forgotten::NONE,
        payload_bytes_max: u32::MAX,
    };
    let local = LocalLog { next_seq: Seq(5), ..sides[0].local() };
    assert_eq!(check_rollback(local, &peer).unwrap_err().code, RefuseCode::LogRolledBack, "T11");
    let local = LocalLog { next_seq: Seq(6), ..local };
    assert_eq!(check_rollback(local, &peer), Ok(()));
}

/// However many logs a node knows, and however torn its sets are: what it leaves out is sent again.
#[test]
fn a_hello_holds_no_more_than_a_frame_may() {
    let torn: SeqSet = (1..40_000).step_by(2).map(Seq).collect();
    let cursor = |log| ReceiveCursor {
        log_id: LogId::new([log; 16]),
        received: torn.clone(),
        highest_seen: Seq(40_000),
        seen: Opening::NONE,
        forgotten: Forgotten::NONE,
    };
    let offer = Offer {
        node_id: "node".into(),
        local: Side::new(1, 2).local(),
        cursors: (1..=9).map(cursor).collect(),
        features: vec!["chunks".into()],
        software: "test".into(),
        auth: None,
        limits: Limits::default(),
    };
    let encoded = prost::Message::encode_to_vec(&hello(&offer));
    assert_eq!(check_frame(&encoded), Ok(()), "T58");
    let cursors = read_hello(hello(&offer)).unwrap().cursors;
    let counts: Vec<_> = cursors.iter().map(|cursor| cursor.received.ranges().count()).collect();
    let full = alys_stream_protocol::limits::RANGES_MAX;
    // One feature, four cursors, and as many ranges as there is room for.
    assert_eq!(counts, [full, full, full, FRAME_ITEMS_MAX - 3 * full - 5]);
}
