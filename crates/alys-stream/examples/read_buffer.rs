//! One layer crate alone: reads the buffer of a node offline, without a lock and without writing a
//! byte. It uses `messaging` and nothing above it.
//!
//! `cargo run --example read_buffer -- DATA_DIR/buffer`; without a folder it makes a buffer with
//! three messages first.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream::messaging::buffer::{Buffer, BufferConfig};
use alys_stream::messaging::storage::FileStorage;
use alys_stream::messaging::tools;
use alys_stream::protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream::protocol::seq_set::SeqSet;
use alys_stream::protocol::time::{SystemClock, WallClock as _};
use bytes::Bytes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = folder.path().join("buffer");
            fill(&dir).await?;
            dir
        }
    };

    let found = tools::inspect(&dir, &FileStorage)?;
    println!("{}: log {}, epoch {}", dir.display(), found.log_id, found.epoch.0);
    println!(
        "{} records in {} segments, {} unsettled, {}",
        found.records,
        found.segments.len(),
        found.unsettled_records(),
        if found.is_sound() { "sound" } else { "DAMAGED: see `alys-stream buffer verify`" },
    );
    tools::dump(&dir, &FileStorage, &mut |record| {
        let Message { id, kind, priority, payload, .. } = &record.message;
        println!(
            "{:>6}  {id}  kind {}  {}  {} bytes  {}",
            record.seq,
            kind.0,
            priority.as_str(),
            payload.len(),
            if record.is_settled { "settled" } else { "to be delivered" },
        );
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// A buffer with three messages, the first one settled.
async fn fill(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (buffer, _) = Buffer::open(dir, BufferConfig::default(), Arc::new(FileStorage))?;
    let message = |text: &'static str, priority| Message {
        id: MessageId::mint(),
        kind: MessageKind(1000),
        priority,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from_static(text.as_bytes()),
    };
    let messages = vec![
        message("done", Priority::Normal),
        message("waits", Priority::Normal),
        message("waits, urgently", Priority::Critical),
    ];
    let accepted = buffer.append(SystemClock.now(), messages)?;
    let settled: SeqSet = accepted.iter().take(1).map(|accepted| accepted.seq).collect();
    buffer.settle(&settled);
    buffer.close().await;
    Ok(())
}
