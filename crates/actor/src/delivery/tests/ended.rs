//! Messages that an earlier process ended or that live again: nobody is told two things.

use alys_stream_messaging::DeadLetter;

use super::*;
use crate::letters::Replayed;
use crate::links::Links;
use crate::outcome;

#[tokio::test]
async fn what_had_ended_is_settled_and_sent_to_nobody() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    life.accept(messages(0..3)).await;
    // What a crash between an outcome and its settlement leaves (A7).
    let complete = outcome::plain(id(1), OutcomeState::Complete, "signed");
    let position = life.delivery.outcomes.put(id(1), complete.encode_to_vec().into());
    life.delivery.outcomes.durable(position).await.unwrap();
    life.stop().await;

    let life = site.start().await;
    life.connect(ONE);
    assert_eq!(life.drain(ONE, 2).await, [Seq(1), Seq(3)]);
    assert_eq!(life.ended(id(2)).await, OutcomeState::Complete);
    assert_eq!(life.delivery.buffer.stat().records(), 0);
    let mut follow = life.delivery.follow(id(1)).unwrap();
    assert_eq!(follow.finished_outcome().await.map(|o| o.reason), Some("signed".into()));
    life.stop().await;
}

/// A life whose one message is refused for good, and dying.
async fn start_refused(site: &Site) -> Life {
    let life = site.start().await;
    life.accept(messages(0..1)).await;
    life.connect(ONE);
    assert_eq!(life.batch(ONE).await, [Seq(1)]);
    life.delivery.handle_nack(ONE, Seq(1), Refusal::Terminal, 7, "never");
    life
}

/// The same, and dead.
async fn start_failed(site: &Site) -> Life {
    let life = start_refused(site).await;
    assert_eq!(life.ended(id(0)).await, OutcomeState::Failed);
    life
}

/// Accepts its message again, and does nothing else of a replay.
async fn replay_without_a_node(site: &Site) {
    let buffer = site.buffer();
    buffer.replay(START, messages(0..1).remove(0), Seq(1)).unwrap();
    buffer.durable(Seq(2)).await.unwrap();
    buffer.close().await;
}

#[tokio::test]
async fn a_replayed_message_is_followed_in_its_second_life() {
    let site = Site::new(1, Bounds::default());
    let life = start_failed(&site).await;

    let letters = life.delivery.dead_letters.find(&id(0));
    life.delivery.replay_letters(&letters).await.unwrap();
    let mut follow = life.delivery.follow(id(0)).unwrap();
    assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Accepted));
    drop(follow);
    life.stop().await;

    let life = site.start().await;
    let mut follow = life.delivery.follow(id(0)).unwrap();
    assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Accepted));
    life.connect(ONE);
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(follow.finished_outcome().await.map(|o| o.state()), Some(OutcomeState::Complete));
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    life.stop().await;

    let life = site.start().await;
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    life.stop().await;
}

/// The first life is known, and of the second the disk has nothing that can be read. How it ended is
/// remembered all the same; and where it had not, it is lost, since its letter is gone.
#[tokio::test]
async fn a_replayed_message_whose_record_is_damaged_ended_well_only_if_it_had_before() {
    for is_delivered in [false, true] {
        let site = Site::new(1, Bounds::default());
        let life = start_failed(&site).await;
        let letters = life.delivery.dead_letters.find(&id(0));
        life.delivery.replay_letters(&letters).await.unwrap();
        if is_delivered {
            assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
            assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
        }
        life.stop().await;

        let path = site.dir.path().join("buffer/0000000000000001.segment");
        let mut bytes = std::fs::read(&path).unwrap();
        let is_id = |at: &usize| bytes[*at..].starts_with(id(0).as_bytes());
        let records: Vec<usize> = (0..bytes.len()).filter(is_id).collect();
        assert_eq!(records.len(), 2);
        bytes[records[1]] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        for _ in 0..2 {
            let life = site.start().await;
            assert_eq!(life.delivery.buffer.lookup(&id(0)), Some(Seq(1)));
            let mut follow = life.delivery.follow(id(0)).unwrap();
            let outcome = follow.finished_outcome().await.unwrap();
            let is_complete = outcome.state() == OutcomeState::Complete;
            assert_eq!(is_complete, is_delivered, "{}", outcome.reason);
            assert_eq!(outcome.reason.contains("lost"), !is_delivered, "{}", outcome.reason);
            assert_eq!(life.delivery.buffer.stat().records(), 0);
            life.stop().await;
        }
    }
}

/// Two were replayed, a crash took both and left their notes, and one was replayed again without a
/// node: under the number that the other had been given.
#[tokio::test]
async fn a_note_of_a_replay_that_a_crash_took_is_not_believed() {
    let site = Site::new(1, Bounds::default());
    let life = start_failed(&site).await;
    let stale = outcome::plain(id(0), OutcomeState::Accepted, "3");
    let position = life.delivery.outcomes.put(id(0), stale.encode_to_vec().into());
    life.delivery.outcomes.durable(position).await.unwrap();
    assert_eq!(life.ended(id(0)).await, OutcomeState::Failed, "its letter says so");
    life.stop().await;
    replay_without_a_node(&site).await;

    let life = site.start().await;
    assert_eq!(life.delivery.lives_under(&id(0)), Some(Seq(2)));
    life.connect(ONE);
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    life.stop().await;
    let life = site.start().await;
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    life.stop().await;
}

/// The dead letter is there before the settlement is (A7), and operators see it at once.
#[tokio::test]
async fn a_message_that_is_replayed_while_it_dies_lives() {
    let site = Site::new(1, Bounds::default());
    let life = start_refused(&site).await;
    let letter = loop {
        if let Some((letter, _)) = life.letters().letters.first() {
            break *letter;
        }
        tokio::task::yield_now().await;
    };
    assert!(life.delivery.buffer.is_live(Seq(1)), "it is not settled yet");
    let replayed = life.delivery.replay_letters(&[letter]).await.unwrap();
    assert_eq!(replayed, [(letter, Replayed::Accepted(Seq(2)))]);
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    assert_eq!(life.delivery.dead_letters.stat().count, 0);
    life.stop().await;
}

/// The dead letter came to the disk, and a crash before anything else of the end (A7).
#[tokio::test]
async fn a_message_whose_outcome_a_crash_took_stays_failed_when_its_letter_is_removed() {
    let site = Site::new(1, Bounds::default());
    let life = start_failed(&site).await;
    let letter = life.letters().letters.remove(0).1;
    life.stop().await;
    // The other one has nothing but its letter.
    let life = site.start().await;
    life.accept(messages(1..2)).await;
    let letter = DeadLetter { seq: Seq(2), message: messages(1..2).remove(0), ..letter };
    let (_, position) = life.delivery.dead_letters.put(&letter);
    life.delivery.dead_letters.durable(position).await.unwrap();
    life.stop().await;

    let life = site.start().await;
    let all: Vec<_> = life.letters().letters.iter().map(|(id, _)| *id).collect();
    assert_eq!(life.delivery.purge_letters(&all).await.unwrap(), 2);
    life.stop().await;
    let life = site.start().await;
    for number in 0..2 {
        assert_eq!(life.ended(id(number)).await, OutcomeState::Failed, "{number}");
    }
    life.stop().await;
}

#[tokio::test]
async fn a_replay_that_lost_its_mark_in_a_crash_is_marked_at_the_start() {
    let site = Site::new(1, Bounds::default());
    let life = start_failed(&site).await;
    life.stop().await;
    // Accepted again, and nothing else of the replay reached the disk.
    replay_without_a_node(&site).await;

    let life = site.start().await;
    assert_eq!(life.delivery.dead_letters.stat().count, 0, "its dead letter is removed");
    life.connect(ONE);
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    life.stop().await;
}

/// Accepted is durable; that it is in the outbox, too, comes a moment later.
#[tokio::test]
async fn a_drain_waits_for_what_is_on_its_way_to_the_outbox_and_to_the_disk() {
    let site = Site::new(1, Bounds::default());
    let around = site.surroundings();
    let links = Links::new(&site.config, None, &around);
    // Without drivers: each step is taken here.
    let opened = Delivery::open(&site.config, around).unwrap();
    let delivery = opened.resume().await.unwrap();
    let is_drained = || delivery.drained(&links, Duration::ZERO);
    delivery.handle_connected(ONE, None, &SeqSet::new());
    assert!(is_drained().await);
    delivery.accept(messages(0..1)).await.unwrap();
    assert!(!is_drained().await, "it is not in the outbox yet");
    delivery.handle_durable(delivery.buffer.next_durable().await.unwrap());
    assert!(is_drained().await, "no link carries data: it waits on the disk");
    let budget = Budget::new(64, 1 << 20);
    assert_eq!(delivery.poll_batch(ONE, budget), [Seq(1)]);
    delivery.handle_ack(ONE, 1, &[Seq(1)].into_iter().collect());
    assert!(!is_drained().await, "its end is not durable yet");
    delivery.close().await;
}

/// A crash between the acceptance of a replay and the removal of its dead letter, after the message has
/// ended well: it has no letter.
#[tokio::test]
async fn a_replayed_message_that_ends_well_takes_its_dead_letter_with_it() {
    let site = Site::new(1, Bounds::default());
    let life = start_failed(&site).await;
    let message = messages(0..1).remove(0);
    life.delivery.accept_again(START, message, Seq(1)).unwrap();
    assert_eq!(life.delivery.dead_letters.stat().count, 1);
    assert_eq!(life.drain(ONE, 1).await, [Seq(2)]);
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    assert_eq!(life.delivery.dead_letters.stat().count, 0);
    life.stop().await;
}
