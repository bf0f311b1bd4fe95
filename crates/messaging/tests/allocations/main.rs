//! How often the buffer asks for memory while messages are appended. A test binary of its own: it
//! counts what every thread of the process does.

use std::alloc::System;
use std::sync::Arc;

use alys_stream_messaging::{Buffer, BufferConfig, FileStorage};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

const MESSAGES: u64 = 10_000;

/// Allocations per message: a page of the index and a page of payloads for every 128 messages, the
/// nodes of the maps that hold them, and what queues and buffers take when they grow.
const PER_MESSAGE_MAX: f64 = 0.05;

fn messages(first: u64) -> Vec<Message> {
    let payload = |n: u64| Bytes::from(vec![n.to_le_bytes()[0]; 256]);
    let id = |n: u64| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        MessageId::new(id)
    };
    let message = |n| Message {
        id: id(n),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: Some(NOW),
        ordering_key: None,
        traceparent: None,
        payload: payload(n),
    };
    (first..first + MESSAGES).map(message).collect()
}

#[tokio::test]
async fn an_append_allocates_nothing_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(FileStorage);
    let (buffer, _) = Buffer::open(dir.path(), BufferConfig::default(), storage).unwrap();
    // Twice to warm up: groups of ids, maps and buffers have grown by then.
    for round in 0..3 {
        let messages = messages(1 + round * MESSAGES);
        let region = Region::new(ALLOCATOR);
        let mut last = Seq(0);
        for message in messages {
            last = buffer.append_one(NOW, message).unwrap().seq;
        }
        let appended = region.change();
        buffer.durable(last).await.unwrap();
        let durable = region.change();
        let count = f64::from(u32::try_from(MESSAGES).unwrap());
        let per_message = |stats: stats_alloc::Stats| {
            let allocations = stats.allocations + stats.reallocations;
            f64::from(u32::try_from(allocations).unwrap()) / count
        };
        println!(
            "round {round}: {:.4} allocations per message while appending, {:.4} until durable",
            per_message(appended),
            per_message(durable)
        );
        if round == 2 {
            // The writer's thread is counted, too.
            assert!(per_message(durable) <= PER_MESSAGE_MAX, "{durable:?}");
        }
        buffer.next_durable().await.unwrap();
        let mut all = SeqSet::new();
        all.insert_range(Seq(1)..=last);
        let position = buffer.settle(&all);
        buffer.position_durable(position).await.unwrap();
    }
}
