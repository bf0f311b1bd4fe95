//! Dead letters and outcomes.

use std::time::Duration;

use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetterConfig, DeadLetterId};
use alys_stream_messaging::outcome::OutcomeConfig;
use alys_stream_messaging::{Cause, DeadLetter, DeadLetters, Outcomes};
use alys_stream_protocol::message::LogId;

use super::*;

fn letter(log: LogId, n: u64, cause: Cause) -> DeadLetter {
    DeadLetter {
        log,
        seq: Seq(n),
        message: message(n, 300),
        accepted_at: NOW,
        died_at: UnixMillis(NOW.0 + 5),
        cause,
        attempts: vec![DeadAttempt {
            endpoint: "gov-1".into(),
            at: NOW,
            code: 7,
            text: "no".into(),
        }],
        error_chain: vec!["refused".into(), "by policy".into()],
    }
}

fn open_letters(dir: &Path) -> DeadLetters {
    let config = DeadLetterConfig { segment_bytes: 12 * 1024, ..DeadLetterConfig::default() };
    DeadLetters::open(dir, config, Arc::new(FileStorage)).unwrap().0
}

#[tokio::test]
async fn dead_letters_keep_everything_until_purged() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogId::new([3; 16]);
    let causes = [
        Cause::Expired,
        Cause::TimedOut { may_have_been_seen: true },
        Cause::Refused { code: 9, text: "never".into() },
    ];
    let letters = open_letters(dir.path());
    for n in 1..=90 {
        let (id, _) = letters.put(&letter(log, n, causes[n as usize % 3].clone()));
        assert_eq!(id, DeadLetterId(n));
    }
    let (again, position) = letters.put(&letter(log, 5, Cause::Expired));
    assert_eq!(again, DeadLetterId(5), "one per message");
    letters.durable(position).await.unwrap();
    let ids: Vec<DeadLetterId> = (1..=60).filter(|n| n % 7 != 0).map(DeadLetterId).collect();
    assert_eq!(letters.purge(&ids).0, ids.len());
    letters.close().await;
    drop(letters);
    let letters = open_letters(dir.path());
    let left: Vec<u64> = (1..=90).filter(|n| *n > 60 || n % 7 == 0).collect();
    assert_eq!(letters.seqs_of(log), seqs(left.iter().copied()));
    assert_eq!(letters.stat().count, left.len() as u64);
    let listed = letters.list(Some(DeadLetterId(left[1])), 3).unwrap();
    assert_eq!(listed.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), left[2..5]);
    for (id, found) in letters.list(None, 1000).unwrap() {
        assert_eq!(found, letter(log, id.0, causes[id.0 as usize % 3].clone()));
    }
    assert_eq!(letters.put(&letter(log, 91, Cause::Expired)).0, DeadLetterId(91));
}

#[tokio::test]
async fn the_oldest_are_dropped_beyond_bytes_or_age_and_the_stat_tells_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogId::new([3; 16]);
    let config = DeadLetterConfig {
        segment_bytes: 12 * 1024,
        bytes_max: 10_000,
        age_max: Some(Duration::from_secs(60)),
        ..DeadLetterConfig::default()
    };
    let open = || DeadLetters::open(dir.path(), config, Arc::new(FileStorage)).unwrap().0;
    let at = |n: u64| UnixMillis(NOW.0 + n);
    let put = |letters: &DeadLetters, n: u64| {
        let dead = DeadLetter { died_at: at(n), ..letter(log, n, Cause::Expired) };
        let position = letters.put(&dead).1;
        letters.expire(at(n));
        position
    };
    let letters = open();
    let mut n = 0;
    while !letters.stat().is_nearly_full() {
        n += 1;
        put(&letters, n);
    }
    let stat = letters.stat();
    assert_eq!((stat.dropped, stat.oldest), (0, Some(at(1))), "told before anything is dropped");
    assert!(stat.bytes >= 8_000 && stat.bytes_max == 10_000);
    let per_letter = stat.bytes / n;
    let fit = 10_000 / per_letter;
    while n < 2 * fit {
        n += 1;
        put(&letters, n);
    }
    let stat = letters.stat();
    assert_eq!((stat.count, stat.dropped, stat.dropped_by_bytes()), (fit, fit, fit));
    assert_eq!(letters.find(&message(1, 0).id), []);
    assert_eq!(letters.find(&message(n, 0).id), [DeadLetterId(n)]);
    let position = put(&letters, n + 1);
    letters.durable(position).await.unwrap();
    letters.close().await;
    drop(letters);
    let letters = open();
    assert_eq!((letters.stat().count, letters.stat().oldest), (fit, Some(at(n + 2 - fit))));
    assert_eq!(letters.find(&message(n, 0).id), [DeadLetterId(n)], "after a restart too");
    // Old ones go with the next, or when asked; the newest too.
    assert_eq!(letters.expire(at(n + 60_000)), fit - 2, "older than a minute");
    assert_eq!(letters.list(None, 9).unwrap()[0].0, DeadLetterId(n));
    assert_eq!(letters.expire(at(n + 1_000_000)), 2);
    let stat = letters.stat();
    assert_eq!((stat.count, stat.bytes, stat.oldest), (0, 0, None));
    assert_eq!((stat.dropped, stat.dropped_by_age), (fit, fit), "since it was opened");
    assert_eq!(letters.find(&message(n, 0).id), []);
}

#[tokio::test]
async fn the_newest_is_kept_whatever_its_bytes_and_age_is_that_of_the_death() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogId::new([3; 16]);
    let config = DeadLetterConfig {
        bytes_max: 100,
        age_max: Some(Duration::from_secs(60)),
        ..DeadLetterConfig::default()
    };
    let letters = DeadLetters::open(dir.path(), config, Arc::new(FileStorage)).unwrap().0;
    let dead = |n: u64, died_at: u64| DeadLetter {
        died_at: UnixMillis(died_at),
        ..letter(log, n, Cause::Expired)
    };
    let (first, _) = letters.put(&dead(1, NOW.0));
    assert!(letters.stat().bytes > 100);
    // The wall clock went back.
    let (second, _) = letters.put(&dead(2, NOW.0 - 50_000));
    assert_eq!(letters.stat().count, 2, "the message of the first may not be settled yet");
    assert_eq!(letters.expire(NOW), 1);
    assert_eq!((letters.find(&message(1, 0).id), letters.stat().count), (vec![], 1));
    assert_eq!(letters.find(&message(2, 0).id), [second]);
    assert_ne!(first, second);
    assert_eq!(letters.expire(UnixMillis(NOW.0 + 10_000)), 0);
    assert_eq!(letters.expire(UnixMillis(NOW.0 + 10_001)), 1);
    let stat = letters.stat();
    assert_eq!((stat.count, stat.dropped, stat.dropped_by_age), (0, 2, 1));
}

#[tokio::test]
async fn age_is_counted_from_the_death_however_they_were_stored() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogId::new([3; 16]);
    let config =
        DeadLetterConfig { age_max: Some(Duration::from_secs(60)), ..DeadLetterConfig::default() };
    let letters = DeadLetters::open(dir.path(), config, Arc::new(FileStorage)).unwrap().0;
    for (n, died_at) in [(1, 5_000), (2, 1_000), (3, 9_000)] {
        let died_at = UnixMillis(NOW.0 + died_at);
        letters.put(&DeadLetter { died_at, ..letter(log, n, Cause::Expired) });
    }
    // The same message died in another log, too.
    let other = LogId::new([4; 16]);
    let died_at = UnixMillis(NOW.0 + 10_000);
    letters.put(&DeadLetter { died_at, ..letter(other, 3, Cause::Evicted) });
    assert_eq!(letters.find(&message(3, 0).id), [DeadLetterId(3), DeadLetterId(4)]);
    assert_eq!(letters.stat().oldest, Some(UnixMillis(NOW.0 + 1_000)));
    assert_eq!(letters.expire(UnixMillis(NOW.0 + 61_001)), 1);
    assert_eq!(letters.stat().oldest, Some(UnixMillis(NOW.0 + 5_000)));
    assert_eq!(letters.find(&message(2, 0).id), []);
    letters.purge(&[DeadLetterId(1), DeadLetterId(3)]);
    assert_eq!(letters.stat().oldest, Some(died_at));
    assert_eq!(letters.find(&message(3, 0).id), [DeadLetterId(4)]);
}

#[tokio::test]
async fn outcomes_survive_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        OutcomeConfig { count_max: 20, segment_bytes: 12 * 1024, ..OutcomeConfig::default() };
    let open = || Outcomes::open(dir.path(), config, Arc::new(FileStorage)).unwrap().0;
    let id = |n| message(n, 0).id;
    let outcomes = open();
    let mut position = outcomes.put(id(0), "first".into());
    assert_eq!(outcomes.get(&id(0)).unwrap().unwrap(), "first");
    for n in 1..=100 {
        position = outcomes.put(id(n), vec![n as u8; 500].into());
    }
    position = outcomes.put(id(95), "replaced".into()).max(position);
    outcomes.durable(position).await.unwrap();
    let check = |outcomes: &Outcomes| {
        assert_eq!(outcomes.get(&id(80)).unwrap(), None);
        assert_eq!(outcomes.get(&id(95)).unwrap().unwrap(), "replaced");
        assert_eq!(outcomes.get(&id(100)).unwrap().unwrap(), vec![100; 500]);
        assert_eq!(outcomes.stat().0, 20);
    };
    check(&outcomes);
    outcomes.close().await;
    drop(outcomes);
    check(&open());
    assert!(files(dir.path(), ".segment").len() <= 6);
}
