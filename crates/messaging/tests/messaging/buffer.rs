//! What the buffer promises while nothing breaks.

use alys_stream_messaging::{AppendCause, BufferConfig, FileStorage, OpenError};
use alys_stream_protocol::limits::MESSAGE_BYTES_MAX;
use std::sync::Arc;

use super::*;

#[tokio::test]
async fn accepted_is_durable_and_read_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, recovered) = open(dir.path(), small());
    assert!(recovered.is_created && metas(&buffer).is_empty());
    let log_id = buffer.log_id();
    let accepted = buffer.append(NOW, vec![message(1, 100), message(2, 0)]).unwrap();
    assert_eq!(accepted.iter().map(|a| a.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)]);
    assert!(buffer.append(NOW, Vec::new()).unwrap().is_empty());
    buffer.durable(Seq(2)).await.unwrap();
    buffer.written(Seq(2)).await.unwrap();
    assert_eq!(buffer.read(Seq(1)).unwrap(), Some(message(1, 100)));
    let fresh = buffer.next_durable().await.unwrap();
    assert_eq!(fresh.iter().map(|meta| meta.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)]);
    let position = buffer.settle(&seqs([1]));
    buffer.position_durable(position).await.unwrap();
    assert_eq!(buffer.read(Seq(1)).unwrap(), None);
    assert_eq!(buffer.settled_below(), Seq(2));
    buffer.close().await;
    assert_eq!(buffer.next_durable().await, None);
    assert!(buffer.durable(buffer.append_one(NOW, message(3, 1)).unwrap().seq).await.is_err());
    drop(buffer);

    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!(metas(&buffer).iter().map(|meta| meta.seq).collect::<Vec<_>>(), [Seq(2)]);
    assert_eq!((recovered.gaps.len(), recovered.torn_tail), (0, None));
    assert_eq!((buffer.log_id(), buffer.epoch().0, buffer.next_seq()), (log_id, 2, Seq(3)));
    assert_eq!(buffer.read(Seq(2)).unwrap(), Some(message(2, 0)));
    assert!(buffer.is_settled(Seq(1)) && !buffer.is_settled(Seq(2)));
    assert_eq!(buffer.unsettled(), seqs([2]));
}

#[tokio::test]
async fn an_id_is_stored_once_while_live_and_after_it_was_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), small());
    let twice = buffer.append(NOW, vec![message(1, 9), message(1, 9)]).unwrap();
    assert_eq!((twice[1].seq, twice[1].is_duplicate), (Seq(1), true));
    buffer.append(NOW, vec![message(2, 9), message(3, 9)]).unwrap();
    let position = buffer.settle(&seqs([1, 2, 3]));
    buffer.position_durable(position).await.unwrap();
    assert!(buffer.append_one(NOW, message(3, 9)).unwrap().is_duplicate);
    drop(buffer);
    let (buffer, _) = open(dir.path(), small());
    assert_eq!(buffer.append_one(NOW, message(2, 9)).unwrap().seq, Seq(2));
    let again = buffer.append_one(NOW, message(4, 9)).unwrap();
    assert_eq!((again.seq, again.is_duplicate), (Seq(4), false));
}

#[tokio::test]
async fn what_does_not_fit_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), BufferConfig { quota_bytes: 1000, ..small() });
    let oversize = vec![message(1, 1), message(2, MESSAGE_BYTES_MAX + 1)];
    let error = buffer.append(NOW, oversize.clone()).unwrap_err();
    assert_eq!(error.cause, AppendCause::TooLarge { index: 1, bytes: MESSAGE_BYTES_MAX + 1 });
    assert_eq!(error.messages, oversize);
    buffer.append_one(NOW, message(1, 800)).unwrap();
    let error = buffer.append_one(NOW, message(2, 800)).unwrap_err();
    assert!(error.cause.is_backpressure() && error.messages.len() == 1);
    assert_eq!(
        error.to_string(),
        "the buffer holds 880 of 1000 bytes: send again once some is settled"
    );
    buffer.durable(Seq(1)).await.unwrap();
    buffer.settle(&seqs([1]));
    assert_eq!(buffer.append_one(NOW, message(2, 800)).unwrap().seq, Seq(2), "by itself");
}

#[tokio::test]
async fn payloads_beyond_the_cache_are_read_back_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { payload_cache_bytes: 2000, ..small() };
    let (buffer, _) = open(dir.path(), config);
    for n in 1..=100 {
        buffer.append_one(NOW, message(n, 500)).unwrap();
    }
    assert!(buffer.stat().cached_bytes <= 2000);
    buffer.durable(Seq(100)).await.unwrap();
    for n in 1..=100 {
        assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 500)));
    }
    assert!(buffer.log_stat().segments > 1);
}

#[test]
fn a_second_opener_is_refused_with_the_directory_and_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), small());
    let error = Buffer::open(dir.path(), small(), Arc::new(FileStorage)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(text.starts_with(dir.path().to_str().unwrap()) && text.contains("pid"), "{text}");
    drop(buffer);
    open(dir.path(), small());
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error =
        Buffer::open(&file.path().join("buffer"), small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
}

#[test]
fn every_open_raises_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=12 {
        let (buffer, _) = open(dir.path(), small());
        assert_eq!((buffer.epoch().0, buffer.stat().records()), (n, n - 1));
        buffer.append_one(NOW, message(n, 700)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), BufferConfig { segment_bytes: 1 << 20, ..small() });
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..64_u64 {
        let buffer = buffer.clone();
        producers.spawn(async move {
            for n in 0..40 {
                let accepted = buffer.append_one(NOW, message(producer * 1000 + n, 256)).unwrap();
                buffer.durable(accepted.seq).await.unwrap();
                assert!(buffer.read(accepted.seq).unwrap().is_some());
            }
        });
    }
    let mut fresh = Vec::new();
    while fresh.len() < 64 * 40 {
        fresh.extend(buffer.next_durable().await.unwrap());
    }
    while let Some(done) = producers.join_next().await {
        done.unwrap();
    }
    assert!(fresh.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq), "in order, no hole");
    let stat = buffer.log_stat();
    assert_eq!(stat.entries, 64 * 40);
    assert!(stat.syncs * 4 < stat.entries, "{stat:?}");
}

#[tokio::test]
async fn settled_segments_are_recycled_or_removed_and_their_ids_are_still_known() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), small());
    // One lingers; it pins its own segment only.
    buffer.append_one(NOW, message(1, 300)).unwrap();
    for n in 2..=600 {
        buffer.append_one(NOW, message(n, 300)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
        buffer.settle(&seqs([n]));
    }
    until(|| files(dir.path(), ".segment").len() <= 4).await;
    buffer.close().await;
    drop(buffer);
    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!(buffer.stat().records(), 1);
    // What a recycled segment has behind its last entry is no torn one.
    assert_eq!((recovered.gaps.len(), recovered.torn_tail), (0, None));
    assert_eq!((buffer.next_seq(), buffer.settled_below()), (Seq(601), Seq(1)));
    assert_eq!(buffer.read(Seq(1)).unwrap(), Some(message(1, 300)));
    for n in 2..=600 {
        let again = buffer.append_one(NOW, message(n, 300)).unwrap();
        assert_eq!((again.seq, again.is_duplicate), (Seq(n), true));
    }
}
