//! What a session allocates: nothing that a peer's word alone asks for, and no copy of a payload on
//! its way to the encoder. Measured with a counting allocator; compression contexts are outside of
//! it and made once.

use std::alloc::System;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{
    Epoch, LogId, Message, MessageId, MessageKind, Priority, Seq, Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::frame::Kind;
use alys_stream_protocol::session::{Data, Frame, GapCause};
use alys_stream_protocol::time::SystemClock;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, OutboundRecord, PeerLog, ReceiveCursor,
    ReceiveError, Refusal, Verdict,
};
use alys_stream_transport::session::credential::SessionAuth;
use alys_stream_transport::session::driver::{
    self, FRAMES_OUT_MAX, SessionEnd, SessionParts, Unobserved,
};
use alys_stream_transport::session::features::Features;
use alys_stream_transport::session::{Limits, Session, SessionConfig, Terms};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use prost::Message as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for the whole process: one measurement at a time.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a session itself needs, whatever passes through it.
const SLACK: usize = 128 * 1024;

/// Messages to send, and nothing else.
struct Owner(Mutex<VecDeque<OutboundRecord>>);

impl Exchange for Owner {
    fn local(&self) -> LocalLog {
        let (next_seq, settled) = (Seq(1000), Settled::NONE);
        LocalLog { log_id: LogId::new([1; 16]), opening: Epoch(1).into(), next_seq, settled }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        ReceiveCursor::unseen(peer_log)
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        Vec::new()
    }

    fn established(&self, _peer: &PeerLog) -> Result<(), Refusal> {
        Ok(())
    }

    fn established_plain(&self, _peer_id: &str) {}

    fn poll_batch(&self, _budget: Budget) -> Vec<OutboundRecord> {
        self.0.lock().expect("nobody panics").pop_front().into_iter().collect()
    }

    async fn ready(&self) {
        std::future::pending::<()>().await;
    }

    fn acked(&self, _ack_id: u64, _ranges: &SeqSet) {}

    fn acks_durable(&self) -> u64 {
        0
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, _nack: Nack) {}

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        Ok(records.iter().map(|_| Verdict::Stored).collect())
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {}

    fn gap(&self, _range: RangeInclusive<Seq>, _cause: GapCause, _text: &str) {}

    fn lost(&self) {}
}

fn parts(records: Vec<OutboundRecord>) -> SessionParts<Owner> {
    let limits = Limits::default();
    let terms = Terms {
        session_id: "s".into(),
        peer_id: "p".into(),
        send: limits,
        receive: limits,
        heartbeat_interval: None,
        features: Features::ALL.names(),
        software: "test".into(),
        highest_sent: Seq(0),
        peer_settled_below: Seq::FIRST,
    };
    let now = tokio::time::Instant::now().into_std();
    SessionParts {
        session: Session::new(now, terms, SessionConfig::default()),
        exchange: Arc::new(Owner(Mutex::new(records.into()))),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        auth: SessionAuth::none(),
        controls: mpsc::channel(1).1,
        shutdown: CancellationToken::new(),
        drain: Duration::from_secs(5),
    }
}

fn allocated<T>(region: &Region<'_, System>, of: T) -> (usize, T) {
    let change = region.change();
    let grown = usize::try_from(change.bytes_reallocated).unwrap_or(0);
    (change.bytes_allocated + grown, of)
}

/// A peer sends one frame. Returns how the session ended, and what it allocated.
async fn receive(compressed: Bytes, uncompressed_bytes: u32) -> (usize, String) {
    let parts = parts(Vec::new());
    let (out, _frames) = mpsc::channel(64);
    let data = Data { settled_below: 1, compressed, uncompressed_bytes, ..Data::default() };
    let frames = vec![Ok::<Frame, Infallible>(Kind::Data(data).into())];
    let frames = futures::stream::iter(frames).boxed();
    let region = Region::new(ALLOCATOR);
    let end: SessionEnd<Infallible> = driver::run(parts, frames, out).await;
    allocated(&region, end.to_string())
}

#[tokio::test]
async fn a_decompression_bomb_gets_no_room() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let zeros = vec![0; 256 * 1024 * 1024];
    let bomb: Bytes = zstd::bulk::compress(&zeros, 1).unwrap().into();
    drop(zeros);
    assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
    // It says what it is.
    let (bytes, end) = receive(bomb.clone(), 256 * 1024 * 1024).await;
    assert!(end.contains("of which at most"), "{end}");
    assert!(bytes < SLACK, "{bytes} bytes");
    // The frame lies about it.
    let (bytes, end) = receive(bomb.clone(), 1024).await;
    assert!(end.contains("its length is not the one stated"), "{end}");
    assert!(bytes < SLACK, "{bytes} bytes");
    // The block lies too: what does not fit into the room that it asked for is not inflated.
    let mut lying = bomb.to_vec();
    let size_at = 5 + usize::from(lying[4] & 0x20 == 0);
    lying[size_at..size_at + 4].copy_from_slice(&(1024 * 1024_u32).to_le_bytes());
    let (bytes, end) = receive(lying.into(), 1024 * 1024).await;
    assert!(end.contains("unreadable"), "{end}");
    assert!(bytes < 1024 * 1024 + SLACK, "{bytes} bytes");
    // Records of no bytes, as many as fit.
    let empty: Vec<u8> = [0x0a, 0x00].repeat(1024 * 1024);
    let block = zstd::bulk::compress(&empty, 1).unwrap().into();
    let (bytes, end) = receive(block, 2 * 1024 * 1024).await;
    assert!(end.contains("a batch of 129 records"), "{end}");
    assert!(bytes < 2 * 1024 * 1024 + SLACK, "{bytes} bytes");
}

#[tokio::test]
async fn payloads_are_not_copied_on_their_way_to_the_encoder() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let message = |seq: u64, bytes: usize| OutboundRecord {
        seq: Seq(seq),
        message: Message {
            id: MessageId::new(u128::from(seq).to_be_bytes()),
            kind: MessageKind(1000),
            priority: Priority::Low,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: Bytes::from(vec![7; bytes]),
        },
    };
    // One that goes in parts, and some that go whole.
    let records: Vec<_> = [(1, limits::MESSAGE_BYTES_MAX)]
        .into_iter()
        .chain((2..50).map(|seq| (seq, 60_000)))
        .map(|(seq, bytes)| message(seq, bytes))
        .collect();
    let payloads: usize = records.iter().map(|record| record.message.payload.len()).sum();
    let (out, mut frames) = mpsc::channel(FRAMES_OUT_MAX);
    let silence = futures::stream::pending::<Result<Frame, Infallible>>();
    let mut running = std::pin::pin!(driver::run(parts(records), silence.boxed(), out));
    let (mut taken, mut sent) = (Vec::with_capacity(200), 0);
    let region = Region::new(ALLOCATOR);
    while sent < payloads {
        let frame = tokio::select! {
            _ = &mut running => panic!("the session ended"),
            frame = frames.recv() => frame.unwrap(),
        };
        sent += match &frame.kind {
            Some(Kind::Data(data)) => data.records.iter().map(|r| r.payload.len()).sum(),
            Some(Kind::Chunk(chunk)) => chunk.part.len(),
            _ => 0,
        };
        taken.push(frame);
    }
    let (bytes, ()) = allocated(&region, ());
    assert!(bytes < SLACK, "{bytes} bytes allocated for {payloads} bytes of payload");
    // The encoder writes each of them once, into the buffer of the connection.
    let encoded: usize = taken.iter().map(Frame::encoded_len).sum();
    assert!(encoded < payloads + 200 * 100, "{encoded}");
    let mut buffer = BytesMut::with_capacity(encoded);
    let region = Region::new(ALLOCATOR);
    for frame in &taken {
        frame.encode(&mut buffer).unwrap();
    }
    let (bytes, ()) = allocated(&region, ());
    assert!(bytes < SLACK, "{bytes} bytes allocated beside the buffer");
}
