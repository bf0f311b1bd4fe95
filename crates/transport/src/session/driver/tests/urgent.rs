//! What is urgent passes what is not: long records, a full window, a saturated link.

use alys_stream_protocol::session::frame::Kind;
use alys_stream_protocol::session::{Data, Record};
use prost::Message as _;

use super::*;

/// A side whose outgoing frames are taken one by one, by hand. Nothing ever comes in.
struct Wire {
    side: Arc<Memory>,
    frames: mpsc::Receiver<Frame>,
    running: JoinSet<SessionEnd<Infallible>>,
}

fn wire(features: Features) -> Wire {
    let side = Memory::with(0, 0);
    let (out, frames) = mpsc::channel(FRAMES_OUT_MAX);
    let (_, controls) = mpsc::channel(1);
    let terms = Terms { features: features.names(), ..terms(Limits::default()) };
    let parts = SessionParts {
        session: Session::new(now(), terms, SessionConfig::default()),
        exchange: Arc::clone(&side),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        auth: SessionAuth::none(),
        controls,
        shutdown: CancellationToken::new(),
        drain: Duration::from_secs(5),
    };
    let silence: Incoming = futures::stream::pending().boxed();
    let mut running = JoinSet::new();
    running.spawn(run(parts, silence, out));
    Wire { side, frames, running }
}

impl Wire {
    async fn next(&mut self) -> Kind {
        let frame = self.frames.recv().await.expect("the session runs").kind.unwrap();
        // The writer makes the next one while this one is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
        frame
    }

    /// Bytes of all frames before the batch with `seq`.
    async fn before(&mut self, seq: u64) -> usize {
        let mut bytes = 0;
        loop {
            let kind = self.next().await;
            if let Kind::Data(data) = &kind
                && data.records.iter().any(|record| record.seq == seq)
            {
                return bytes;
            }
            bytes += Frame::from(kind).encoded_len();
        }
    }

    async fn parts(&mut self, count: usize) {
        let mut seen = 0;
        while seen < count {
            seen += usize::from(matches!(self.next().await, Kind::Chunk(_)));
        }
    }
}

/// One batch, and what the frame of it adds.
const ONE_BATCH: usize = limits::BATCH_BYTES_MAX + 128 * 64;

#[tokio::test(start_paused = true)]
async fn a_critical_message_passes_a_long_one_within_one_batch() {
    let mut wire = wire(Features::ALL);
    wire.side.push(Priority::Low, 1, limits::MESSAGE_BYTES_MAX);
    for round in 0..8 {
        wire.parts(3).await;
        wire.side.push(Priority::Critical, 100 + round, 200);
        let before = wire.before(100 + round).await;
        assert!(before <= ONE_BATCH, "{before} bytes before it");
    }
    drop(wire.running);
}

#[tokio::test(start_paused = true)]
async fn a_critical_message_passes_a_flood_and_a_full_window() {
    // Not compressed, so that frames show what is in them.
    let mut wire = wire(Features { zstd: false, ..Features::ALL });
    wire.side.push(Priority::Low, 1, limits::MESSAGE_BYTES_MAX);
    for seq in 1000..3000 {
        wire.side.push(Priority::Low, seq, 3000);
    }
    wire.parts(5).await;
    wire.side.push(Priority::Critical, 100, 200);
    assert!(wire.before(100).await <= ONE_BATCH);
    // Nothing is ever acknowledged: the window fills up, but for what is set aside.
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(1), wire.frames.recv()).await {
        frame.unwrap();
    }
    assert!(!crate::lock(&wire.side.lanes)[Priority::Low.index()].is_empty(), "it is full");
    for seq in 101..120 {
        wire.side.push(Priority::Critical, seq, 40_000);
        let before = wire.before(seq).await;
        assert_eq!(before, 0, "the window still has room for it");
    }
    drop(wire.running);
}

#[tokio::test(start_paused = true)]
async fn a_long_record_arrives_however_many_critical_ones_there_are() {
    let mut wire = wire(Features::ALL);
    wire.side.push(Priority::Low, 1, 1024 * 1024);
    wire.parts(1).await;
    for seq in 100..220 {
        wire.side.push(Priority::Critical, seq, 40_000);
    }
    let (mut parts, mut batches) = (0, 0);
    while !crate::lock(&wire.side.lanes)[Priority::Critical.index()].is_empty() {
        let kind = wire.next().await;
        if let Kind::Chunk(chunk) = &kind {
            parts += chunk.part.len();
        }
        if let Kind::Data(data) = &kind {
            batches += data.records.iter().map(|record| record.payload.len()).sum::<usize>();
        }
    }
    assert!(parts * 100 >= batches * 3, "{parts} of {batches} bytes");
    drop(wire.running);
}

#[tokio::test(start_paused = true)]
async fn a_long_critical_record_passes_a_long_one_below_it() {
    let mut wire = wire(Features::ALL);
    wire.side.push(Priority::Low, 1, limits::MESSAGE_BYTES_MAX);
    wire.parts(3).await;
    wire.side.push(Priority::Critical, 2, 300_000);
    let mut order = Vec::new();
    while order.len() < 7 {
        if let Kind::Chunk(chunk) = wire.next().await {
            order.push(chunk.transfer);
        }
    }
    assert_eq!(order, [1, 2, 2, 2, 2, 2, 1], "one part was made before");
    drop(wire.running);
}

#[tokio::test(start_paused = true)]
async fn a_batch_never_waits_to_fill() {
    let mut wire = wire(Features::ALL);
    // The first heartbeat.
    wire.frames.recv().await.unwrap();
    for seq in 1..100 {
        let begun = tokio::time::Instant::now();
        wire.side.push(Priority::Low, seq, 10);
        let Some(Kind::Data(data)) = wire.frames.recv().await.unwrap().kind else {
            panic!("no batch");
        };
        assert_eq!((data.records.len(), data.records[0].seq), (1, seq), "T17");
        assert_eq!(begun.elapsed(), Duration::ZERO, "T17");
    }
    drop(wire.running);
}

#[tokio::test(start_paused = true)]
async fn a_wire_that_takes_nothing_stops_no_reading() {
    let side = Memory::with(1000, 100);
    // Nobody takes what it sends.
    let (out, _frames) = mpsc::channel(FRAMES_OUT_MAX);
    let (incoming, frames_in) = mpsc::channel(4);
    let (_, controls) = mpsc::channel(1);
    let parts = SessionParts {
        session: Session::new(now(), terms(Limits::default()), SessionConfig::default()),
        exchange: Arc::clone(&side),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        auth: SessionAuth::none(),
        controls,
        shutdown: CancellationToken::new(),
        drain: Duration::from_secs(5),
    };
    let frames: Incoming = ReceiverStream::new(frames_in).map(Ok).boxed();
    let mut running = JoinSet::new();
    running.spawn(run(parts, frames, out));
    let credit = u64::from(limits::CREDIT_MESSAGES);
    for seq in 1..=credit {
        let record = Record::from_message(Seq(seq), &message(seq, 100));
        let data = Data { settled_below: 1, records: vec![record], ..Data::default() };
        incoming.send(Kind::Data(data).into()).await.unwrap();
    }
    let stored = async {
        while u64::try_from(crate::lock(&side.received).len()).unwrap() < credit {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.expect("T16");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_parts_gets_whole_records() {
    let mut wire = wire(Features::default());
    wire.side.push(Priority::Low, 1, 1024 * 1024);
    assert!(wire.before(1).await < 1024);
    drop(wire.running);
}
