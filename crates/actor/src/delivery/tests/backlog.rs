//! A backlog larger than what is in memory of it, through restarts.

use super::*;

/// A window that every test exceeds many times.
fn small_window() -> Bounds {
    let outbox = OutboxConfig { window_max: 64, ..OutboxConfig::default() };
    Bounds { outbox, ..Bounds::default() }
}

const BACKLOG: u64 = 2000;

#[tokio::test]
async fn a_restart_delivers_a_long_backlog_once_and_in_order() {
    let site = Site::new(1, small_window());
    let first = site.start().await;
    let accepted = first.accept(messages(0..BACKLOG)).await;
    assert_eq!(accepted.last().map(|last| last.seq), Some(Seq(BACKLOG)));
    first.stop().await;

    let second = site.start().await;
    assert_eq!(second.delivery.outbox_fill().resident, 0, "nothing is loaded for nobody");
    assert_eq!(second.delivery.queued(ONE), usize::try_from(BACKLOG).unwrap());
    second.connect(ONE);
    let seen = second.drain(ONE, 700).await;
    assert!(second.delivery.outbox_fill().resident < 700, "memory is bounded by the window");
    assert!(seen.iter().copied().eq((1..=seen.len() as u64).map(Seq)));
    let last = *seen.last().unwrap();
    assert_eq!(second.ended(id(last.0 - 1)).await, OutcomeState::Complete);
    second.stop().await;

    let third = site.start().await;
    third.connect(ONE);
    let rest = third.drain(ONE, usize::try_from(BACKLOG - last.0).unwrap()).await;
    assert!(rest.iter().copied().eq((last.0 + 1..=BACKLOG).map(Seq)));
    assert_eq!(third.ended(id(BACKLOG - 1)).await, OutcomeState::Complete);
    assert_eq!(third.delivery.buffer.stat().records(), 0);
    assert_eq!(third.delivery.outbox_fill().resident, 0);
    third.stop().await;
}

#[tokio::test]
async fn a_critical_message_overtakes_a_long_backlog() {
    let site = Site::new(1, small_window());
    let life = site.start().await;
    let low = (0..BACKLOG).map(|number| message(number, 1000, Priority::Low)).collect();
    life.accept(low).await;
    let critical = life.accept(vec![message(BACKLOG, 1000, Priority::Critical)]).await;
    life.connect(ONE);
    let batch = life.batch(ONE).await;
    assert_eq!(batch.first(), Some(&critical[0].seq));
    life.stop().await;
}

#[tokio::test]
async fn a_lost_connection_starts_over_at_the_first_unacknowledged() {
    let site = Site::new(2, small_window());
    let life = site.start().await;
    let all = (0..BACKLOG)
        .map(|number| message(number, MessageKind::PEGIN_NOTIFICATION.0, Priority::Normal))
        .collect();
    life.accept(all).await;
    let two = EndpointId(1);
    life.connect(ONE);
    life.connect(two);
    let fast = life.drain(ONE, usize::try_from(BACKLOG).unwrap()).await;
    assert!(
        fast.iter().copied().eq((1..=BACKLOG).map(Seq)),
        "one endpoint does not wait for another"
    );
    let slow = life.drain(two, 300).await;
    let lost = life.batch(two).await;
    life.delivery.handle_lost(two);
    life.connect(two);
    let left = usize::try_from(BACKLOG).unwrap() - slow.len();
    let again = life.drain(two, left).await;
    assert_eq!(again.first(), lost.first());
    assert!(again.iter().copied().eq((slow.len() as u64 + 1..=BACKLOG).map(Seq)));
    assert_eq!(life.ended(id(BACKLOG - 1)).await, OutcomeState::Complete);
    life.stop().await;
}

#[tokio::test]
async fn a_count_of_refusals_survives_a_restart() {
    let mut bounds = small_window();
    bounds.outbox.refusals_max = 3;
    let site = Site::new(1, bounds);
    let mut life = site.start().await;
    life.accept(messages(0..1)).await;
    for refusals in 1..=3 {
        life.connect(ONE);
        assert_eq!(life.batch(ONE).await, [Seq(1)], "{refusals}");
        let refusal = Refusal::Retry { after: None };
        life.delivery.handle_nack(ONE, Seq(1), refusal, 9, "not now");
        if refusals < 3 {
            life.stop().await;
            life = site.start().await;
            // It waits for its time in the new life, too: past the longest backoff it is due.
            site.clock.pass(Duration::from_secs(3600));
        }
    }
    assert_eq!(life.ended(id(0)).await, OutcomeState::Failed);
    let page = life.letters();
    let attempts = &page.letters[0].1.attempts;
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|a| a.endpoint == "gov-0" && a.code == 9 && a.text == "not now"));
    life.stop().await;
}

#[tokio::test]
async fn a_kind_that_no_route_takes_dies_and_holds_up_nothing() {
    let site = Site::new(1, small_window());
    let buffer = site.buffer();
    let unknown = 900;
    let other = (0..BACKLOG).map(|number| {
        let kind = if number % 2 == 0 { unknown } else { 1000 };
        message(number, kind, Priority::Normal)
    });
    buffer.append(START, other.collect()).unwrap();
    buffer.durable(Seq(BACKLOG)).await.unwrap();
    buffer.close().await;
    drop(buffer);

    let life = site.start().await;
    life.connect(ONE);
    let seen = life.drain(ONE, usize::try_from(BACKLOG / 2).unwrap()).await;
    assert!(seen.iter().copied().eq((1..=BACKLOG / 2).map(|n| Seq(2 * n))));
    assert_eq!(life.ended(id(BACKLOG - 2)).await, OutcomeState::Failed);
    assert_eq!(life.ended(id(BACKLOG - 1)).await, OutcomeState::Complete);
    assert_eq!(life.delivery.dead_letters.stat().count, BACKLOG / 2);
    assert!(
        life.metric(&format!(
            "alys_stream_dead_letters_total{{cause=\"refused\"}} {}",
            BACKLOG / 2
        ))
    );
    life.stop().await;
}
