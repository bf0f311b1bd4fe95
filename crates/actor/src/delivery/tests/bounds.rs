//! The bounds of the dead letters, on their timer.

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterConfig};
use alys_stream_protocol::message::LogId;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn bounds(letters: DeadLetterConfig) -> Bounds {
    Bounds { dead_letters: letters, ..Bounds::default() }
}

async fn bury(life: &Life, number: u64, payload_bytes: usize) {
    let payload = Bytes::from(vec![7; payload_bytes]);
    let now = life.delivery.clock.now();
    let letter = DeadLetter {
        log: LogId::new([9; 16]),
        seq: Seq(number + 1),
        message: Message { payload, ..message(number, 1000, Priority::Normal) },
        accepted_at: now,
        died_at: now,
        cause: Cause::Expired,
        attempts: Vec::new(),
        error_chain: Vec::new(),
    };
    let (_, position) = life.delivery.dead_letters.put(&letter);
    life.delivery.dead_letters.durable(position).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letters_expire_on_the_timer_and_the_gauge_says_so_before() {
    let letters = DeadLetterConfig { age_max: Some(10 * DAY), ..DeadLetterConfig::default() };
    let site = Site::new(1, bounds(letters));
    let life = site.start();
    bury(&life, 0, 10).await;
    site.clock.pass(DAY);
    bury(&life, 1, 10).await;
    let near = "alys_stream_dead_letters_nearly_full{bound=\"age\"}";
    let dropped = "alys_stream_dead_letters_dropped_total{reason=\"age\"}";
    let look = async |expected: &[u64]| {
        let [near_is, dropped_is, left] = expected else { unreachable!("three numbers") };
        // The driver runs before this one does again.
        tokio::time::sleep(expiry::LOOK_AGAIN).await;
        tokio::task::yield_now().await;
        assert!(life.metric(&format!("{near} {near_is}")), "{}", life.metrics.encode());
        assert!(life.metric(&format!("{dropped} {dropped_is}")), "{}", life.metrics.encode());
        assert_eq!(life.delivery.dead_letters.stat().count, *left);
    };
    look(&[0, 0, 2]).await;
    site.clock.pass(7 * DAY);
    look(&[1, 0, 2]).await;
    site.clock.pass(2 * DAY);
    look(&[1, 0, 2]).await;
    site.clock.pass(DAY / 2);
    look(&[1, 1, 1]).await;
    life.stop().await;
}

#[tokio::test]
async fn the_gauge_of_bytes_is_set_before_anything_is_dropped() {
    let bytes_max = 100_000;
    let site = Site::new(1, bounds(DeadLetterConfig { bytes_max, ..DeadLetterConfig::default() }));
    let life = site.start();
    let mut was_near = false;
    for number in 0..200 {
        bury(&life, number, 1000).await;
        life.delivery.watch_letters(START);
        let is_near = life.metric("alys_stream_dead_letters_nearly_full{bound=\"bytes\"} 1");
        if life.delivery.dead_letters.stat().dropped > 0 {
            assert!(was_near, "dropped before anybody could know, at {number}");
        }
        was_near = is_near;
    }
    let stat = life.delivery.dead_letters.stat();
    assert!(stat.dropped > 100 && stat.bytes <= bytes_max, "{stat:?}");
    let dropped =
        format!("alys_stream_dead_letters_dropped_total{{reason=\"bytes\"}} {}", stat.dropped);
    assert!(life.metric(&dropped), "{}", life.metrics.encode());
    let fill = life.delivery.letters_fill(START);
    assert!(fill.is_nearly_full && !fill.is_nearly_too_old);
    life.stop().await;
}
