//! The queue against its own rules.

use super::*;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn entry(seq: u64, bytes: u32) -> Entry {
    Entry { seq: Seq(seq), bytes, since: NOW }
}

#[test]
fn a_critical_message_behind_saturating_low_leaves_next() {
    let mut queue = PriorityQueue::new();
    for seq in 1..=10_000 {
        queue.push(Priority::Low, entry(seq, 256));
    }
    for _ in 0..777 {
        assert_eq!(queue.pop(NOW).unwrap().0, Priority::Low);
    }
    queue.push(Priority::Critical, entry(10_001, 256));
    assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(10_001));
    assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(778));
}

#[test]
fn shares_are_16_to_8_to_4_to_1_and_low_gets_at_least_3_percent() {
    let mut queue = PriorityQueue::new();
    let mut sent = [0_u64; 4];
    let mut seq = 0;
    for _ in 0..100_000 {
        for priority in Priority::ALL {
            while queue.count_of(priority) < 4 {
                seq += 1;
                queue.push(priority, entry(seq, 256));
            }
        }
        let (priority, entry) = queue.pop(NOW).unwrap();
        sent[priority.index()] += u64::from(entry.bytes);
    }
    let total: u64 = sent.iter().sum();
    let shares = sent.map(|bytes| bytes * 1000 / total);
    assert_eq!(shares, [34, 137, 275, 552]);
}

#[test]
fn a_large_low_record_is_paid_off_before_the_next_one() {
    let mut queue = PriorityQueue::new();
    queue.push(Priority::Low, entry(1, 1024 * 1024));
    queue.push(Priority::Low, entry(2, 1024 * 1024));
    assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(1));
    for seq in 3..100 {
        queue.push(Priority::Normal, entry(seq, 16 * 1024));
    }
    // 1 MiB of Low is worth 4 MiB of Normal.
    for seq in 3..100 {
        assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(seq));
    }
    assert_eq!(queue.pop(NOW).unwrap().1.seq, Seq(2), "alone, it need not wait");
}

#[test]
fn a_class_that_is_passed_over_is_not_charged_and_keeps_one_turn() {
    let mut queue = PriorityQueue::new();
    let mut passed = Passed::NONE;
    passed.insert(Priority::Low);
    for seq in 1..=100 {
        queue.push(Priority::Low, entry(seq, 1024));
    }
    // A hundred rounds without it.
    for seq in 101..1_000 {
        queue.push(Priority::Normal, entry(seq, 4096));
        assert_eq!(queue.peek(NOW, passed), Some((Priority::Normal, entry(seq, 4096))));
        assert_eq!(queue.take(Priority::Normal), Some(entry(seq, 4096)));
    }
    assert_eq!(queue.peek(NOW, passed), None, "nothing else may go");
    for seq in 1_000..2_000 {
        queue.push(Priority::Normal, entry(seq, 4096));
    }
    let order: Vec<Priority> = (0..40).map(|_| queue.pop(NOW).unwrap().0).collect();
    let low = order.iter().filter(|priority| **priority == Priority::Low).count();
    // 4 KiB each round to 16 KiB of the other: not more for having waited.
    assert_eq!(low, 20, "{order:?}");
    assert!(order[..5].contains(&Priority::Low), "its turn comes within one round");
}

#[test]
fn shares_are_the_same_again_however_classes_were_passed_over() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut queue = PriorityQueue::new();
        let (mut sent, mut seq) = ([0_u64; 4], 0);
        for step in 0..60_000_u32 {
            for priority in Priority::ALL {
                while queue.count_of(priority) < 2 {
                    seq += 1;
                    queue.push(priority, entry(seq, rng.u32(1..2_000)));
                }
            }
            let mut passed = Passed::NONE;
            if step < 10_000 {
                let count = rng.usize(0..4);
                rng.choose_multiple(Priority::ALL, count)
                    .into_iter()
                    .for_each(|p| passed.insert(p));
            }
            let (priority, head) = queue.peek(NOW, passed).unwrap();
            assert!(!passed.contains(priority));
            assert_eq!(queue.take(priority), Some(head));
            if step >= 10_000 {
                sent[priority.index()] += u64::from(head.bytes);
            }
        }
        let total: u64 = sent.iter().sum();
        for (bytes, share) in sent.into_iter().zip([34_u64, 137, 275, 552]) {
            assert!((bytes * 1000 / total).abs_diff(share) <= 3, "{sent:?}");
        }
    }
}

#[test]
fn waiting_gains_weight() {
    let later = UnixMillis(NOW.0 + 4 * AGEING_MILLIS);
    let mut queue = PriorityQueue::new();
    let mut low = 0;
    for round in 0..10_000_u64 {
        queue.push(Priority::Low, entry(2 * round + 1, 1024));
        queue.push(Priority::Critical, Entry { since: later, ..entry(2 * round + 2, 1024) });
    }
    for _ in 0..10_000 {
        low += u32::from(queue.pop(later).unwrap().0 == Priority::Low);
    }
    assert!((4_900..5_100).contains(&low), "{low}");
}

#[test]
fn order_within_a_class_is_that_of_seq_however_it_came() {
    let mut queue = PriorityQueue::new();
    for seq in [5, 6, 3, 9, 4, 6, 1] {
        queue.push(Priority::Normal, entry(seq, 1));
    }
    let order: Vec<u64> = std::iter::from_fn(|| queue.pop(NOW)).map(|(_, e)| e.seq.0).collect();
    assert_eq!(order, [1, 3, 4, 5, 6, 9]);
}
