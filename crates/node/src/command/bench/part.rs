//! Parts of a measurement that have a process of their own: memory that another part left would
//! count otherwise.

use std::path::Path;
use std::process::Stdio;

use alys_stream_messaging::{BacklogPage, Buffer};
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::producers;
use crate::failure::{Exit, Failure};

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Opens a buffer.
    Open,
    /// Appends messages to a new buffer and leaves them unsettled.
    Append,
    /// Opens a buffer, reads everything unsettled, oldest first, and settles it.
    Drain,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Append => "append",
            Self::Drain => "drain",
        }
    }
}

/// What a part took.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Took {
    /// Milliseconds, of all but opening where there is more.
    pub(super) ms: f64,
    /// Milliseconds until the buffer was open.
    pub(super) open_ms: f64,
    /// Milliseconds until the first message was read, from the start.
    pub(super) first_ms: f64,
    /// The most that was resident; nothing where the system does not say.
    pub(super) rss_mib: Option<u64>,
}

impl Took {
    /// The most that was resident, in words.
    pub(super) fn rss(&self) -> String {
        self.rss_mib.map_or_else(|| "unknown".to_owned(), |mib| format!("{mib} MiB"))
    }
}

/// Does it here; the answer as JSON.
///
/// # Errors
///
/// When the disk says no.
pub(super) async fn here(
    part: Part,
    dir: &Path,
    messages: u64,
    payload: u32,
) -> Result<serde_json::Value, Failure> {
    let payload_bytes = usize::try_from(payload).unwrap_or(usize::MAX);
    let started = Instant::now();
    let mut took = match part {
        Part::Open => {
            let buffer = producers::open(dir)?;
            let ms = since(started);
            let rss_mib = rss_mib();
            drop(buffer);
            Took { ms, open_ms: ms, rss_mib, ..Took::default() }
        }
        Part::Append => {
            producers::fill(dir, messages, payload_bytes).await?;
            Took { ms: since(started), ..Took::default() }
        }
        Part::Drain => drain(dir, messages, started).await?,
    };
    took.rss_mib = took.rss_mib.or_else(rss_mib);
    Ok(serde_json::json!(took))
}

async fn drain(dir: &Path, messages: u64, started: Instant) -> Result<Took, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::Io, error);
    let buffer = producers::open(dir)?;
    let open_ms = since(started);
    let mut first_ms = None;
    let mut count = 0;
    let mut settled = buffer.durable_position();
    for page in buffer.backlog() {
        let seqs = read(&buffer, &page)?;
        first_ms.get_or_insert_with(|| since(started));
        count += seqs.count();
        settled = buffer.settle(&seqs);
        // No faster than the disk.
        if count % 16_384 == 0 {
            buffer.position_durable(settled).await.map_err(|error| failed(&error))?;
        }
    }
    buffer.position_durable(settled).await.map_err(|error| failed(&error))?;
    let ms = since(started) - open_ms;
    if count != messages || buffer.stat().records() != 0 {
        return Err(Failure::other(format_args!("{count} of {messages} messages were found")));
    }
    buffer.close().await;
    Ok(Took { ms, open_ms, first_ms: first_ms.unwrap_or_default(), rss_mib: None })
}

/// Reads what is unsettled of a page, payloads included.
fn read(buffer: &Buffer, page: &BacklogPage) -> Result<SeqSet, Failure> {
    let bits = page.by_priority.iter().fold(0, |all, bits| all | bits);
    let first = page.first_seq().0;
    let is_unsettled = |seq: &u64| (bits >> (seq - first)) & 1 == 1;
    let seqs: Vec<Seq> = (first..first + BacklogPage::SEQS).filter(is_unsettled).map(Seq).collect();
    let mut read = SeqSet::new();
    for meta in buffer.metas(&seqs) {
        let meta = meta.map_err(|error| Failure::new(Exit::Io, error))?;
        let message = buffer.read(meta.seq).map_err(|error| Failure::new(Exit::Io, error))?;
        if message.is_some_and(|message| message.id == meta.id) {
            read.insert(meta.seq);
        }
    }
    Ok(read)
}

/// Has a new process do it.
///
/// # Errors
///
/// When the process cannot be started or fails.
pub(super) async fn in_a_process_of_its_own(
    part: Part,
    dir: &Path,
    messages: u64,
    payload: u32,
) -> Result<Took, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::other(format_args!("the process for the part `{}`: {why}", part.as_str()))
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let output = tokio::process::Command::new(program)
        .args(["bench", "buffer", "--part", part.as_str(), "--at"])
        .arg(dir)
        .args(["--backlog", &messages.to_string(), "--payload", &payload.to_string()])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
}

fn since(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

/// The most that this process ever had in memory.
fn rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}
