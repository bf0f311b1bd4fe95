//! A buffer on a simulated disk with its oracle: every step of a script, whatever the disk does.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use alys_stream_messaging::{AppendCause, Buffer, DurabilityError, Position};
use alys_stream_testkit::disk::{Crash, Disk};
use alys_stream_testkit::segment;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::oracle::Oracle;
use super::*;

/// What takes longer hangs. A step takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) disk: Disk,
    pub(crate) oracle: Oracle,
    pub(crate) buffer: Option<Buffer>,
    config: BufferConfig,
    runtime: Runtime,
    settlement: Option<Position>,
    /// Whether the disk was full since the buffer was opened.
    pub(crate) may_be_full: bool,
    /// Whether a sync failed or will fail since the buffer was opened.
    is_sync_failing: bool,
}

impl Rig {
    pub(crate) fn new(seed: u64, config: BufferConfig, case: String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self {
            disk: Disk::new(seed),
            oracle: Oracle::new(case),
            buffer: None,
            config,
            runtime,
            settlement: None,
            may_be_full: false,
            is_sync_failing: false,
        }
    }

    /// Opens the buffer and checks all that was promised. `false` when the disk said no.
    pub(crate) fn try_open(&mut self) -> bool {
        self.settlement = None;
        self.may_be_full = false;
        self.is_sync_failing = false;
        match Buffer::open(Path::new(DIR), self.config, self.disk.mount()) {
            Ok((buffer, recovered)) => {
                let calls = self.disk.disarm();
                if self.disk.is_down() {
                    // Nobody was told anything: the next open is checked instead.
                    return false;
                }
                self.oracle.check_opened(&buffer, &recovered);
                if let Some(calls) = calls {
                    self.disk.crash_at(calls);
                }
                self.buffer = Some(buffer);
                true
            }
            Err(_) => false,
        }
    }

    /// Opens the buffer; the disk may say no only when it is down.
    pub(crate) fn open(&mut self) {
        let is_open = self.try_open();
        assert!(is_open || self.disk.is_down(), "cannot be opened; {}", self.oracle.case);
    }

    pub(crate) fn append(&mut self, count: u64, payload_bytes: usize) {
        let Some(buffer) = &self.buffer else { return };
        let messages = self.oracle.mint(count, payload_bytes);
        let next = buffer.next_seq();
        match buffer.append(NOW, messages.clone()) {
            Ok(accepted) => {
                let seqs: Vec<Seq> = accepted.iter().map(|accepted| accepted.seq).collect();
                self.oracle.accepted(next, &messages, &seqs);
            }
            Err(error) => {
                assert_eq!(error.messages, messages, "given back; {}", self.oracle.case);
                let is_explained = match error.cause {
                    AppendCause::Poisoned => self.disk.is_down(),
                    AppendCause::DiskFull => self.may_be_full,
                    AppendCause::IdsUnreadable => self.disk.is_down(),
                    AppendCause::Full { .. } | AppendCause::Backlog => false,
                    AppendCause::TooLarge { .. } => false,
                };
                assert!(is_explained, "{}; {}", error.cause, self.oracle.case);
            }
        }
    }

    /// Settles some of what is open, by their places among it.
    pub(crate) fn settle(&mut self, places: impl IntoIterator<Item = usize>) {
        let Some(buffer) = &self.buffer else { return };
        let open = self.oracle.open_seqs();
        let chosen: Vec<u64> =
            places.into_iter().filter_map(|place| open.get(place).copied()).collect();
        self.settlement = Some(buffer.settle(&seqs(chosen.iter().copied())));
        self.oracle.settle_asked(&chosen);
    }

    /// Waits until everything is durable.
    ///
    /// # Errors
    ///
    /// What the buffer says when it never will be.
    pub(crate) fn try_sync(&mut self) -> Result<(), DurabilityError> {
        let Some(buffer) = &self.buffer else {
            return Ok(());
        };
        let (last, settlement) = (self.oracle.last_seq(), self.settlement);
        let waits = async {
            if let Some(last) = last {
                buffer.durable(last).await?;
            }
            if let Some(position) = settlement {
                buffer.position_durable(position).await?;
            }
            Ok(())
        };
        let case = &self.oracle.case;
        let waited = self.runtime.block_on(async { timeout(PATIENCE, waits).await });
        waited.unwrap_or_else(|_| panic!("hangs; {case}"))?;
        if let Some(last) = last {
            self.oracle.confirmed(last);
        }
        self.oracle.settled();
        Ok(())
    }

    /// Waits until everything is durable; the disk may say no only when it is down.
    pub(crate) fn sync(&mut self) {
        if let Err(error) = self.try_sync() {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            assert!(self.disk.is_down(), "{error}: {cause}; {}", self.oracle.case);
        }
    }

    /// Ends the process in order. What was pending becomes durable without anyone being told.
    pub(crate) fn close(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let closed = self.runtime.block_on(async { timeout(PATIENCE, buffer.close()).await });
            assert!(closed.is_ok(), "closing hangs; {}", self.oracle.case);
        }
        self.settlement = None;
    }

    /// Ends the process at once. What was appended and not confirmed is anyone's guess.
    pub(crate) fn crash(&mut self, crash: Crash) {
        // Whatever its threads still try fails, as if they had ended.
        self.disk.crash_at(1);
        self.buffer = None;
        self.disk.crash(crash);
    }

    /// Takes back what was to fail, but not what is down.
    pub(crate) fn heal(&self) {
        self.disk.fail_syncs(0, 0);
        self.disk.fail_dir_syncs(0, 0);
    }

    /// Starts the machine again when it went down; what came of it is checked by the next open.
    pub(crate) fn recover(&mut self, crash: Crash) {
        if self.disk.is_down() {
            self.crash(crash);
        }
    }

    /// Lets a sync fail, unless one is about to fail already: the second would be told to callers.
    pub(crate) fn fail_sync_soon(&mut self, skip: u64) {
        if self.buffer.is_some() && !std::mem::replace(&mut self.is_sync_failing, true) {
            self.disk.fail_syncs(skip, 1);
        }
    }

    /// Uses what was opened after a crash: it must be as good as any.
    pub(crate) fn exercise(&mut self) {
        let buffer = self.buffer.as_ref().unwrap();
        self.oracle.check_duplicate(buffer);
        self.append(3, 120);
        self.sync();
        self.settle([0, 2]);
        self.append(1, 1000);
        self.sync();
        self.close();
        self.open();
        assert!(self.buffer.is_some(), "{}", self.oracle.case);
        self.close();
    }

    /// Flips a bit in a record that is followed by a whole entry, or of which the mark knows. Only
    /// while the buffer is closed.
    pub(crate) fn corrupt(&mut self, choice: u64) {
        let mut records = Vec::new();
        let mut last = 0;
        for path in self.disk.paths() {
            let bytes = self.disk.cached_file(&path).unwrap();
            if path.extension().is_none_or(|suffix| suffix != "segment") {
                continue;
            }
            for entry in segment::entries(&bytes) {
                if entry.kind == segment::KIND_CHECKPOINT {
                    continue;
                }
                last = last.max(entry.position);
                if entry.kind == segment::KIND_RECORD {
                    records.push((path.clone(), entry));
                }
            }
        }
        // What the mark says was durable is never taken for an entry that was not finished.
        let mark = self.disk.cached_file(&Path::new(DIR).join("mark"));
        let marked =
            mark.and_then(|mark| Some(u64::from_le_bytes(*mark.get(40..)?.first_chunk()?)));
        records.retain(|(_, entry)| entry.position < last.max(marked.unwrap_or(0)));
        if records.is_empty() {
            return;
        }
        let (path, entry) = &records[choice as usize % records.len()];
        let offset = entry.offset + (choice >> 16) as usize % entry.bytes;
        assert!(self.disk.flip_bit(path, offset, (choice >> 40) as u8 % 8));
        self.oracle.damaged(entry.key);
    }
}
