//! The bounds of the dead letters, on their timer.

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterConfig};
use alys_stream_protocol::message::LogId;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn bounds(letters: DeadLetterConfig) -> Bounds {
    Bounds { dead_letters: letters, ..Bounds::default() }
}

pub(super) async fn bury(life: &Life, number: u64, payload_bytes: usize) {
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
    let life = site.start().await;
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
    // The newest goes as well, and each is counted once, for its own reason.
    site.clock.pass(DAY);
    look(&[0, 2, 0]).await;
    assert_eq!(life.delivery.dead_letters.stat().dropped_by_bytes(), 0);
    life.stop().await;
}

/// A message that was not in memory when it died: nobody was connected, and no process that had
/// refused it is left.
#[tokio::test]
async fn a_dead_letter_keeps_all_of_a_message_that_was_not_in_memory() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let deadline = START.saturating_add(DAY);
    let original = Message {
        deadline: Some(deadline),
        traceparent: Some(trace.into()),
        payload: Bytes::from(vec![9; 3000]),
        ..message(0, 1000, Priority::Normal)
    };
    life.accept(vec![original.clone()]).await;
    life.connect(ONE);
    assert_eq!(life.batch(ONE).await, [Seq(1)]);
    let refusal = Refusal::Retry { after: Some(DAY) };
    life.delivery.handle_nack(ONE, Seq(1), refusal, 7, "busy");
    life.stop().await;

    site.clock.pass(DAY / 2);
    let life = site.start().await;
    assert_eq!(life.delivery.outbox_fill().resident, 0);
    site.clock.pass(DAY);
    life.delivery.handle_time();
    assert_eq!(life.ended(id(0)).await, OutcomeState::TimedOut);
    let found = life.delivery.dead_letters.find(&id(0));
    let letter = life.delivery.dead_letters.get(found[0]).unwrap().unwrap();
    assert_eq!(letter.message, original, "payload and trace included");
    assert_eq!(letter.cause, Cause::TimedOut { may_have_been_seen: true });
    let attempts: Vec<_> =
        letter.attempts.iter().map(|a| (a.endpoint.as_str(), a.at, a.code, &*a.text)).collect();
    assert_eq!(attempts, [("gov-0", START, 7, "busy")]);
    assert_eq!(letter.error_chain[1..], ["gov-0 refused it with code 7: busy"]);
    assert_eq!((letter.accepted_at, letter.seq), (START, Seq(1)));
    life.stop().await;
}

#[tokio::test]
async fn the_gauge_of_bytes_is_set_before_anything_is_dropped() {
    let bytes_max = 100_000;
    let site = Site::new(1, bounds(DeadLetterConfig { bytes_max, ..DeadLetterConfig::default() }));
    let life = site.start().await;
    let mut was_near = false;
    for number in 0..200 {
        bury(&life, number, 1000).await;
        life.delivery.dead_letters.expire(START);
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
