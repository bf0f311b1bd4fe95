//! The limit: what the disk does when nothing else is asked of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Failure;

/// Bytes of the file, as large as a segment.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of one write while the file is prepared.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A file whose every block was written before, so that a sync has no metadata to write.
#[derive(Debug)]
pub(super) struct Bare {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Bare {
    /// Makes the file.
    ///
    /// # Errors
    ///
    /// When the disk says no.
    pub(super) fn create(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("bare");
        let failed = |error| Failure::file("write", &path, &error);
        let open = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = open.map_err(failed)?;
        let bytes = vec![0x5a; usize::try_from(CHUNK_BYTES).unwrap_or(0)];
        for chunk in 0..FILE_BYTES / CHUNK_BYTES {
            file.write_all_at(&bytes, chunk * CHUNK_BYTES).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        Ok(Self { file, at: 0, bytes })
    }

    /// Writes so many bytes behind the last ones, and syncs.
    ///
    /// # Errors
    ///
    /// When the disk says no.
    pub(super) fn commit(&mut self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.bytes.len() < length {
            self.bytes.resize(length, 0x5a);
        }
        if self.at + bytes > FILE_BYTES {
            self.at = 0;
        }
        let batch = self.bytes.get(..length).unwrap_or(&self.bytes);
        self.file.write_all_at(batch, self.at)?;
        self.file.sync_data()?;
        self.at += bytes;
        Ok(())
    }

    /// Commits batches of these sizes, over and over, for so long; how many messages that were.
    ///
    /// # Errors
    ///
    /// When the disk says no.
    pub(super) fn run(
        &mut self,
        batches: &[(u64, u64)],
        span: Duration,
    ) -> io::Result<(u64, Duration)> {
        let started = Instant::now();
        let mut messages = 0;
        for (entries, bytes) in batches.iter().cycle() {
            if started.elapsed() >= span {
                break;
            }
            self.commit(*bytes)?;
            messages += entries;
        }
        Ok((messages, started.elapsed()))
    }
}
