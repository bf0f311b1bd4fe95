//! Opening a backlog, in a process of its own: memory that the filling left would count otherwise.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use alys_stream_messaging::{Buffer, BufferConfig, FileStorage};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::failure::{Exit, Failure};

/// What opening took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) open_ms: f64,
    /// The most that was resident; nothing where the system does not say.
    pub(super) rss_mib: Option<u64>,
}

/// Opens the buffer in a directory here; the answer as JSON.
///
/// # Errors
///
/// When it cannot be opened.
pub(super) fn here(dir: &Path) -> Result<serde_json::Value, Failure> {
    let started = Instant::now();
    let opened = Buffer::open(dir, BufferConfig::default(), Arc::new(FileStorage));
    let opened = opened.map_err(|error| Failure::new(Exit::Io, error))?;
    let open_ms = (started.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    let rss_mib = rss_mib();
    drop(opened);
    Ok(serde_json::json!(Opened { open_ms, rss_mib }))
}

/// Has a new process open it.
///
/// # Errors
///
/// When the process cannot be started or fails.
pub(super) async fn in_a_process_of_its_own(dir: &Path) -> Result<Opened, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::other(format_args!("opening the backlog in a process of its own: {why}"))
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let output = tokio::process::Command::new(program)
        .args(["bench", "buffer", "--open"])
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))
}

/// The most that this process ever had in memory.
fn rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.div_ceil(1024))
}
