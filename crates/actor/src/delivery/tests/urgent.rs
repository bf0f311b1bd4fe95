//! What an endpoint's stream is given while long messages wait: the whole way from `send` over the
//! disk to the budget of a session.

use alys_stream_protocol::limits::{CREDIT_BYTES, MESSAGE_BYTES_MAX, WHOLE_BYTES_MAX};
use alys_stream_transport::exchange::{Budget, Exchange as _, OutboundRecord};

use super::*;
use crate::exchange::EndpointExchange;

const FLOOD: u64 = 12;

fn long(number: u64) -> Message {
    let payload = Bytes::from(vec![7; MESSAGE_BYTES_MAX]);
    Message { payload, ..message(number, 1000, Priority::Low) }
}

/// What a session says that has used some of its window, perhaps with a long record that leaves in
/// parts; an eighth of the window is for critical messages.
fn budget(used_bytes: u64, has_parts: bool) -> Budget {
    let whole_bytes_max = u64::try_from(WHOLE_BYTES_MAX).unwrap();
    let reserve = CREDIT_BYTES / 8;
    Budget {
        critical_messages: 128,
        critical_bytes: reserve,
        large_bytes_max: if has_parts { whole_bytes_max } else { u64::MAX },
        ..Budget::new(128, CREDIT_BYTES - reserve - used_bytes)
    }
}

async fn taken(exchange: &EndpointExchange, budget: Budget) -> Vec<OutboundRecord> {
    loop {
        let batch = exchange.poll_batch(budget);
        if !batch.is_empty() {
            return batch;
        }
        exchange.ready().await;
    }
}

fn seqs(batch: &[OutboundRecord]) -> Vec<Seq> {
    batch.iter().map(|record| record.seq).collect()
}

#[tokio::test]
async fn a_critical_message_overtakes_a_flood_of_long_low_ones() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    for number in 0..FLOOD {
        life.accept(vec![long(number)]).await;
    }
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    life.connect(ONE);
    // The first one leaves, in parts; the window has no room for a second.
    let first = taken(&exchange, budget(0, false)).await;
    assert_eq!(seqs(&first), [Seq(1)]);
    let used = u64::try_from(MESSAGE_BYTES_MAX).unwrap();
    assert!(exchange.poll_batch(budget(used, true)).is_empty());
    assert!(exchange.poll_batch(budget(used, false)).is_empty());

    // Others pass it, each within what is left for them.
    let normal = life.accept(vec![message(100, 1000, Priority::Normal)]).await;
    let urgent = life.accept(vec![message(101, 1000, Priority::Critical)]).await;
    let next = taken(&exchange, budget(used, true)).await;
    assert_eq!(seqs(&next), [urgent[0].seq, normal[0].seq]);

    // With a window that is full of others, and also while parts are owed.
    life.accept(vec![message(102, 1000, Priority::High)]).await;
    let urgent = life.accept(vec![message(103, 1000, Priority::Critical)]).await;
    let reserve = budget(used, true).for_critical();
    let next = taken(&exchange, Budget { critical_bytes: CREDIT_BYTES / 8, ..reserve }).await;
    assert_eq!(seqs(&next), [urgent[0].seq]);

    // And the flood goes on in order, one at a time.
    life.ack(ONE, &[Seq(1)]);
    let next = taken(&exchange, budget(0, false)).await;
    assert_eq!(next.last().map(|record| record.seq), Some(Seq(2)));
    assert_eq!(next.len(), 2, "with the one of high priority before it");
    for number in 2..FLOOD {
        life.ack(ONE, &[Seq(number)]);
        assert_eq!(seqs(&taken(&exchange, budget(0, false)).await), [Seq(number + 1)]);
    }
    life.stop().await;
}
