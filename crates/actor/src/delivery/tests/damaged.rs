//! Damage in the stores beside the buffer is told: in the status, in the metrics, in the log (D5).

use std::path::{Path, PathBuf};

use alys_stream_messaging::dead_letter::DeadLetter;
use alys_stream_messaging::inbox::{InboxConfig, InboxRecord};
use alys_stream_messaging::log::GapCause;
use alys_stream_messaging::outcome::OutcomeConfig;
use alys_stream_messaging::refusals::History;

use super::*;

/// The payload of the entry in the middle, and of no other.
const MIDDLE: &[u8] = b"the one that is hit";

/// What is stored `number`th of three.
fn bytes(number: u64) -> Vec<u8> {
    if number == 1 { MIDDLE.to_vec() } else { format!("the one beside it, {number}").into() }
}

fn store_message(number: u64) -> Message {
    Message { payload: bytes(number).into(), ..message(number, 1000, Priority::Normal) }
}

/// Flips a bit in the middle of the entry in the middle; the file.
fn flip(dir: &Path) -> PathBuf {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut file = std::fs::read(&path).unwrap();
        if let Some(at) = file.windows(MIDDLE.len()).position(|window| window == MIDDLE) {
            file[at + MIDDLE.len() / 2] ^= 1;
            std::fs::write(&path, file).unwrap();
            return path;
        }
    }
    panic!("nothing to hit in {}", dir.display());
}

/// Three entries in each store, each as its owner writes them.
async fn fill(site: &Site) {
    let life = site.start().await;
    let delivery = &life.delivery;
    let log = delivery.buffer.log_id();
    let accepted = life.accept((0..3).map(store_message).collect()).await;
    for (number, Accepted { seq, .. }) in (0..3).zip(&accepted) {
        let text = String::from_utf8(bytes(number)).unwrap();
        let attempt = Attempt { endpoint: "gov-0".into(), at: START, code: 7, text };
        let position =
            delivery.refusals.put(*seq, &History { attempts: vec![attempt], ..History::default() });
        delivery.refusals.durable(position).await.unwrap();
        let (_, position) = delivery.dead_letters.put(&DeadLetter {
            // Of a message of another log: this one's are to live.
            log: LogId::new([9; 16]),
            seq: Seq(number + 1),
            message: store_message(number),
            accepted_at: START,
            died_at: START,
            cause: Cause::Expired,
            attempts: Vec::new(),
            error_chain: Vec::new(),
        });
        delivery.dead_letters.durable(position).await.unwrap();
        let position = delivery.outcomes.put(id(90 + number), bytes(number).into());
        delivery.outcomes.durable(position).await.unwrap();
    }
    life.stop().await;
    let (dir, storage) = (|name| site.dir.path().join(name), &site.config.ground.storage);
    let (inbox, _) = Inbox::open(&dir("inbox"), InboxConfig::default(), storage.clone()).unwrap();
    for number in 0..3 {
        let record = InboxRecord { seq: Seq(number + 1), message: store_message(number) };
        let receipt = inbox.receive(log, vec![record]);
        inbox.durable(receipt.position).await.unwrap();
    }
    inbox.close().await;
    let config = OutcomeConfig::default();
    let (proposals, _) = Outcomes::open(&dir("proposals"), config, storage.clone()).unwrap();
    for number in 0..3 {
        let position = proposals.put(id(number), bytes(number).into());
        proposals.durable(position).await.unwrap();
    }
    proposals.close().await;
}

#[tokio::test]
async fn damage_in_any_store_is_told_with_its_place() {
    const STORES: [&str; 5] = ["dead_letters", "outcomes", "refusals", "proposals", "inbox"];
    let site = Site::new(1, Bounds::default());
    fill(&site).await;
    let life = site.start().await;
    assert_eq!(life.delivery.store_gaps, []);
    assert!(life.metric("alys_stream_corruptions_total 0"));
    life.stop().await;

    let files = STORES.map(|store| flip(&site.dir.path().join(store)));
    for is_known in [false, true] {
        let life = site.start().await;
        let gaps = &life.delivery.store_gaps;
        assert_eq!(gaps.iter().map(|gap| gap.store).collect::<Vec<_>>(), STORES);
        for (StoreGap { gap, .. }, file) in gaps.iter().zip(&files) {
            assert!(file.to_string_lossy().contains(&gap.segment.to_string()), "{gap:?}");
            assert_eq!((gap.cause, gap.is_known), (GapCause::Damaged, is_known), "{gap:?}");
            let (first, last) = gap.positions.unwrap();
            assert_eq!(first, last, "one entry is lost, and no other: {gap:?}");
        }
        assert!(life.metric("alys_stream_corruptions_total 5"));
        assert!(life.metric("alys_stream_gaps_total 5"));
        assert_eq!(life.letters().letters.len(), 2);
        life.stop().await;
    }
}
