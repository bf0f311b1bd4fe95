//! The buffer against a plain map, with closing and reopening as actions.

use std::collections::BTreeMap;

use alys_stream_messaging::{BufferConfig, RecordMeta};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { ids: Vec<u64>, bytes: usize },
    Settle { first: u64, count: u64 },
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(0..400_u64, 1..12), 0..1500_usize)
            .prop_map(|(ids, bytes)| Step::Append { ids, bytes }),
        3 => (1..300_u64, 1..40_u64).prop_map(|(first, count)| Step::Settle { first, count }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn behaves_like_a_map(steps in prop::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps));
    }
}

async fn check(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig {
        segment_bytes: 12 * 1024,
        // Hardly anything fits into memory: pages and ids are read back all the time.
        payload_cache_bytes: 24 * 1024,
        index_cache_bytes: 0,
        id_group_messages: 128,
        ..BufferConfig::default()
    };
    let (mut buffer, _) = open(dir.path(), config);
    let mut live: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut next = 1;
    for step in steps {
        match step {
            Step::Append { ids, bytes } => {
                let messages = ids.iter().map(|id| message(*id, bytes)).collect();
                for (id, accepted) in ids.iter().zip(buffer.append(NOW, messages).unwrap()) {
                    let known = seen.get(id).copied();
                    assert_eq!(
                        (accepted.is_duplicate, accepted.seq.0),
                        (known.is_some(), known.unwrap_or(next))
                    );
                    if known.is_none() {
                        seen.insert(*id, next);
                        live.insert(next, (*id, bytes));
                        next += 1;
                    }
                }
            }
            Step::Settle { first, count } => {
                if next > 1 {
                    buffer.durable(Seq(next - 1)).await.unwrap();
                }
                buffer.settle(&seqs(first..first + count));
                live.retain(|seq, _| !(first..first + count).contains(seq));
            }
            Step::Sync => {
                let position = buffer.settle(&seqs([]));
                buffer.position_durable(position).await.unwrap();
                let known = metas(&buffer);
                assert_eq!(known.len(), live.len());
                for (meta, (seq, (id, bytes))) in known.iter().zip(&live) {
                    assert_eq!(*meta, RecordMeta::new(Seq(*seq), NOW, &message(*id, *bytes)));
                }
                for (seq, (id, bytes)) in &live {
                    assert_eq!(buffer.read(Seq(*seq)).unwrap(), Some(message(*id, *bytes)));
                }
            }
            Step::Reopen => {
                let settled_below = buffer.settled_below();
                buffer.close().await;
                drop(buffer);
                let recovered;
                (buffer, recovered) = open(dir.path(), config);
                assert_eq!(recovered.gaps, []);
                assert_eq!(recovered.torn_tail, None);
                let unsettled: Vec<u64> = metas(&buffer).iter().map(|meta| meta.seq.0).collect();
                assert_eq!(unsettled, live.keys().copied().collect::<Vec<_>>());
                assert_eq!(buffer.settled_below(), settled_below);
            }
        }
        assert_eq!(buffer.next_seq(), Seq(next));
        assert_eq!(buffer.stat().records(), live.len() as u64);
        let lowest = live.keys().next().copied().unwrap_or(next);
        assert_eq!(buffer.settled_below(), Seq(lowest));
    }
}
