//! The seeds of the corpus: the files of real logs.

use std::path::Path;

use alys_stream_messaging::Buffer;
use alys_stream_protocol::message::{Message, MessageId, MessageKind, OrderingKey, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use bytes::Bytes;

use super::input::{Input, MARK};
use super::{DIR, NOW, config};
use crate::disk::{Disk, Image};
use crate::segment;

/// Inputs made of logs as they are after a few messages, by name. Where segments end depends on how
/// soon the next one was ready.
///
/// # Panics
///
/// When a log on a disk without faults does not work.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("invariant: the machine has what a runtime needs");
    let script = |steps: &[Step]| {
        let disk = Disk::new(0);
        disk.store_file(&Path::new(DIR).join("identity"), identity());
        for session in steps.split(|step| *step == Step::Reopen) {
            runtime.block_on(run(&disk, session));
        }
        encode(&disk.image())
    };
    let append = |count, bytes| Step::Append { count, bytes };
    let settle = |first, last| Step::Settle { first, last };
    vec![
        ("created", script(&[])),
        ("one", script(&[append(1, 10)])),
        ("few", script(&[append(5, 60), settle(2, 3), append(2, 0)])),
        ("segments", script(&[append(10, 300), settle(1, 2), append(12, 500), settle(5, 9)])),
        (
            "epochs",
            script(&[
                append(3, 100),
                Step::Reopen,
                append(3, 100),
                settle(1, 4),
                Step::Reopen,
                append(20, 400),
            ]),
        ),
        ("settled", script(&[append(16, 400), settle(1, 16), append(1, 1)])),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Append { count: u8, bytes: usize },
    Settle { first: u64, last: u64 },
    Reopen,
}

/// An identity that does not depend on chance.
fn identity() -> Vec<u8> {
    let mut bytes = b"ALYSIDNT".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0x11; 16]);
    bytes.resize(64, 0);
    segment::seal_identity(&mut bytes);
    bytes
}

async fn run(disk: &Disk, steps: &[Step]) {
    let (buffer, _) = Buffer::open(Path::new(DIR), config(), disk.mount())
        .expect("invariant: a disk without faults");
    for step in steps {
        let position = match *step {
            Step::Append { count, bytes } => {
                for _ in 0..count {
                    let message = message(buffer.next_seq(), bytes);
                    let accepted =
                        buffer.append_one(NOW, message).expect("invariant: there is room");
                    let durable = buffer.durable(accepted.seq).await;
                    durable.expect("invariant: a disk without faults");
                }
                continue;
            }
            Step::Settle { first, last } => {
                let mut seqs = SeqSet::new();
                seqs.insert_range(Seq(first)..=Seq(last));
                buffer.settle(&seqs)
            }
            Step::Reopen => continue,
        };
        let durable = buffer.position_durable(position).await;
        durable.expect("invariant: a disk without faults");
    }
    buffer.close().await;
}

fn message(seq: Seq, bytes: usize) -> Message {
    let mut id = [0xC5; 16];
    for (target, byte) in id.iter_mut().zip(seq.0.to_be_bytes()) {
        *target = byte;
    }
    let is_even = seq.0.is_multiple_of(2);
    Message {
        id: MessageId::new(id),
        kind: MessageKind(1000),
        priority: if is_even { Priority::High } else { Priority::Low },
        deadline: is_even.then_some(NOW),
        ordering_key: is_even
            .then(|| OrderingKey::try_new("key"))
            .transpose()
            .expect("invariant: a short key"),
        traceparent: is_even
            .then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        payload: Bytes::from(vec![0xAB; bytes]),
    }
}

fn encode(image: &Image) -> Vec<u8> {
    let named = |tag: u8| {
        let bytes = image.get(&Path::new(DIR).join(super::input::name(tag)))?;
        Some((tag, bytes.as_slice()))
    };
    Input::write(&(0..=8).chain([MARK]).filter_map(named).collect::<Vec<_>>())
}
