//! An old copy of the log is put back, and accepts enough to pass for the newer one (D12).

use alys_stream_messaging::storage::FileStorage;
use alys_stream_protocol::message::{Epoch, Forgotten, Opening, Settled};
use alys_stream_protocol::session::RefuseCode;
use alys_stream_transport::exchange::{Budget, Exchange as _, PeerLog};

use super::*;
use crate::exchange::EndpointExchange;

/// A governance node that has seen everything up to `highest_seen`.
fn peer(highest_seen: u64) -> PeerLog {
    let mut received = SeqSet::new();
    received.insert_range(Seq(1)..=Seq(highest_seen));
    PeerLog {
        peer_id: "gov-0".to_owned(),
        log_id: LogId::new([7; 16]),
        opening: Epoch(1).into(),
        next_seq: Seq(1),
        settled_below: Seq(1),
        received,
        highest_seen: Seq(highest_seen),
        seen: Opening::NONE,
        forgotten: Forgotten::NONE,
        payload_bytes_max: u32::MAX,
    }
}

#[tokio::test]
async fn a_log_that_was_put_back_is_found_however_much_it_accepted_since() {
    let site = Site::new(1, Bounds::default());
    let first = site.start().await;
    first.accept(messages(0..5)).await;
    first.stop().await;
    // The copy is of here. The node went on, to number 20; then the copy was put back, and accepted
    // thirty others while governance was away.
    let copy = site.start().await;
    copy.accept(messages(100..130)).await;
    let exchange = EndpointExchange::new(Arc::clone(&copy.delivery), ONE);
    let refusal = exchange.established(&peer(20)).unwrap_err();
    assert_eq!(refusal.code, RefuseCode::LogRolledBack);
    assert_eq!(copy.delivery.buffer.stat().records(), 35, "nothing counts as delivered");
    copy.stop().await;
}

/// Copies the buffer of a site, which may be in use, into another site.
fn copy(from: &Site, to: &Site) {
    let (from, to) = (from.dir.path().join("buffer"), to.dir.path().join("buffer"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        // One that is being replaced may be gone.
        if path.extension().is_none_or(|kind| kind != "tmp") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The peer was away until the copy had been started twice, and had accepted more than the peer has
/// seen of the log.
#[tokio::test]
async fn an_old_copy_is_found_by_a_peer_that_comes_late() {
    // The log went on in the life in which the copy was made, or in one or two later ones.
    for later in 0..=2 {
        let (site, other) = (Site::new(1, Bounds::default()), Site::new(1, Bounds::default()));
        let life = site.start().await;
        life.accept(messages(0..5)).await;
        copy(&site, &other);
        life.accept(messages(5..10)).await;
        let mut seen = life.delivery.buffer.opening();
        life.stop().await;
        for number in 1..=later {
            let life = site.start().await;
            life.accept(messages(10 * number..10 * number + 10)).await;
            seen = life.delivery.buffer.opening();
            life.stop().await;
        }
        for _ in 0..2 {
            let copied = other.start().await;
            copied.accept(messages(100..130)).await;
            copied.stop().await;
        }
        let copied = other.start().await;
        let exchange = EndpointExchange::new(Arc::clone(&copied.delivery), ONE);
        let late = PeerLog { seen, ..peer(10 + 10 * later) };
        assert_eq!(exchange.established(&late).unwrap_err().code, RefuseCode::LogRolledBack);
        copied.stop().await;
    }
}

/// Takes and acknowledges everything, and waits until a peer may be told that it is over.
async fn settle(life: &Life, exchange: &EndpointExchange, count: usize) {
    let sent = life.batch(ONE).await;
    assert_eq!(sent.len(), count);
    exchange.acked(1, &sent.into_iter().collect());
    while exchange.acks_durable() == 0 {
        tokio::task::yield_now().await;
    }
}

/// What was over when the copy had been made, the copy would send again, to a peer that may have
/// forgotten it, or that never had it.
#[tokio::test]
async fn an_old_copy_of_before_something_was_over_is_found() {
    let (site, other) = (Site::new(1, Bounds::default()), Site::new(1, Bounds::default()));
    let life = site.start().await;
    life.accept(messages(0..5)).await;
    copy(&site, &other);
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    exchange.established(&peer(0)).unwrap();
    assert_eq!(exchange.local().settled, Settled::NONE);
    settle(&life, &exchange, 5).await;
    let (opening, settled) = (life.delivery.buffer.opening(), exchange.local().settled);
    assert_eq!(settled, Settled { below: Seq(6), count: 5 });
    let told = PeerLog {
        forgotten: Forgotten { opening, settled_count: settled.count },
        seen: opening,
        ..peer(5)
    };
    exchange.lost();
    exchange.established(&told).unwrap();
    life.stop().await;
    for is_copy in [false, true] {
        let life = if is_copy { &other } else { &site }.start().await;
        let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
        let refused = exchange.established(&told).err().map(|refusal| refusal.code);
        assert_eq!(refused, is_copy.then_some(RefuseCode::LogRolledBack));
        life.stop().await;
    }
}

/// A peer that has seen nothing but what the copy has goes on with it.
#[tokio::test]
async fn an_old_copy_that_contradicts_nobody_goes_on() {
    let site = Site::new(1, Bounds::default());
    let mut seen = Opening::NONE;
    for number in 0..3 {
        let life = site.start().await;
        life.accept(messages(10 * number..10 * number + 10)).await;
        let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
        exchange.established(&PeerLog { seen, ..peer(10 * number) }).unwrap();
        seen = life.delivery.buffer.opening();
        life.stop().await;
    }
}

#[tokio::test]
async fn what_this_process_sent_may_be_known() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    exchange.established(&peer(0)).unwrap();
    life.accept(messages(0..10)).await;
    let mut sent = Seq(0);
    while sent < Seq(10) {
        let batch = exchange.poll_batch(Budget::new(4, 1 << 20));
        sent = batch.iter().map(|record| record.seq).max().unwrap_or(sent);
        tokio::task::yield_now().await;
    }
    exchange.lost();
    exchange.established(&peer(10)).unwrap();
    life.stop().await;
    // After a restart it is what the log held.
    let life = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&life.delivery), ONE);
    exchange.established(&peer(10)).unwrap();
    exchange.lost();
    life.accept(messages(10..20)).await;
    let refusal = exchange.established(&peer(11)).unwrap_err();
    assert_eq!(refusal.code, RefuseCode::LogRolledBack, "nobody sent it that");
    life.stop().await;
}

#[tokio::test]
async fn a_restart_does_not_hide_that_the_log_was_put_back() {
    let site = Site::new(1, Bounds::default());
    let copy = site.start().await;
    copy.accept(messages(0..5)).await;
    let exchange = EndpointExchange::new(Arc::clone(&copy.delivery), ONE);
    exchange.established(&peer(20)).unwrap_err();
    // It goes on accepting, past what the peer has seen, and is started again.
    copy.accept(messages(100..130)).await;
    copy.stop().await;
    let later = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&later.delivery), ONE);
    let refusal = exchange.established(&peer(20)).unwrap_err();
    assert_eq!(refusal.code, RefuseCode::LogRolledBack);
    assert_eq!(later.delivery.buffer.stat().records(), 35, "nothing counts as delivered");
    later.stop().await;
    // Under another id it is another log.
    let dir = site.dir.path().join("buffer");
    alys_stream_messaging::tools::adopt(&dir, &FileStorage).unwrap();
    let adopted = site.start().await;
    let exchange = EndpointExchange::new(Arc::clone(&adopted.delivery), ONE);
    exchange.established(&peer(20)).unwrap();
    adopted.stop().await;
}
