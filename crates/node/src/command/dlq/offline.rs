//! Dead letters in the data directory of a node that does not run.
//!
//! Looking writes nothing but its line of the audit log. Whoever changes something takes the same locks
//! as a node, so that the two never work on one directory at the same time. Before it changes anything it ends what a crash left half dead, as the start of a node does:
//! removed before that, such a letter would let its message live again (A20). On a buffer whose damage
//! no start has reported it changes nothing: opening it would make that damage known, and nobody had
//! been told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_actor::letters::{self, LetterFilter, LettersError, PageBounds};
use alys_stream_messaging::buffer::{Buffer, BufferConfig};
use alys_stream_messaging::dead_letter::{
    DeadLetterConfig, DeadLetterId, DeadLetters, LookedLetters,
};
use alys_stream_messaging::log::{Gap, OpenError, TornTail};
use alys_stream_messaging::outcome::{OutcomeConfig, Outcomes};
use alys_stream_messaging::storage::FileStorage;
use alys_stream_protocol::limits;
use alys_stream_protocol::submission::{
    ListDeadLettersRequest, ListDeadLettersResponse, ReplayResult, ReplayedLetter,
};
use alys_stream_protocol::time::{SystemClock, WallClock as _};

use super::super::buffer::refuse_unreported;
use super::replay::LONG;
use super::source::Progress;
use crate::failure::{Exit, Failure};
use crate::operator::server::PAGE_MAX;
use crate::operator::wire;
use crate::output;

mod audit;

use audit::AuditLog;

/// Folders of a data directory, as a node makes them.
const DEAD_LETTERS: &str = "dead_letters";
const BUFFER: &str = "buffer";
const OUTCOMES: &str = "outcomes";

/// How many are accepted again with one write to the disk.
const STEP: usize = 64;

/// The stores of a data directory.
#[derive(Debug)]
pub(super) struct Offline {
    dir: PathBuf,
    audit: AuditLog,
    /// As they were found.
    looked: LookedLetters,
    /// Opened when something is to be changed.
    stores: Option<Stores>,
}

/// What is changed; the dead letters agree with the buffer.
#[derive(Debug, Clone)]
struct Stores {
    letters: DeadLetters,
    buffer: Buffer,
}

impl Offline {
    /// Looks at the dead letters below `dir`.
    ///
    /// # Errors
    ///
    /// When there are none, a node runs on them, or the disk says no.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let path = folder(dir, DEAD_LETTERS, "no dead letters")?;
        let looked = DeadLetters::look(&path, &FileStorage).map_err(|error| cannot_open(&error))?;
        for gap in looked.gaps().iter().filter(|gap| !gap.is_known) {
            let (segment, offset, lost) = (gap.segment, gap.offset, entries_of(gap));
            output::note(format_args!(
                "warning: {}: damaged at offset {offset} of segment {segment}: {lost} entries are \
                 lost (a start of the node reports it)",
                path.display()
            ));
        }
        let audit = AuditLog::new(dir);
        Ok(Self { dir: dir.to_path_buf(), audit, looked, stores: None })
    }

    /// One page.
    ///
    /// # Errors
    ///
    /// When the filter means nothing.
    pub(super) fn page(
        &self,
        request: ListDeadLettersRequest,
    ) -> Result<ListDeadLettersResponse, Failure> {
        let filter = request.filter.clone().unwrap_or_default();
        let filter = LetterFilter::try_from(filter).map_err(Failure::usage)?;
        let wanted = usize::try_from(request.count_max).ok().filter(|wanted| *wanted > 0);
        let bounds = PageBounds {
            after: (request.after_id > 0).then_some(DeadLetterId(request.after_id)),
            count_max: wanted.unwrap_or(PAGE_MAX).min(PAGE_MAX),
            bytes_max: limits::FRAME_BYTES_MAX,
        };
        if let Some(wire::Look { action, which }) = wire::look(&request) {
            shown(self.audit.write(&[format!("action={action} which={which:?}")])?);
        }
        let page = match &self.stores {
            Some(stores) => letters::page(&stores.letters, &filter, bounds),
            None => letters::page(&self.looked, &filter, bounds),
        };
        Ok(wire::page(page, request.with_payloads))
    }

    /// Accepts messages again: the node delivers them once it runs. They have no deadline, since
    /// nobody knows when that is.
    ///
    /// # Errors
    ///
    /// When a store fails, or the buffer cannot be opened or has damage that nobody knows of.
    pub(super) async fn replay(
        &mut self,
        ids: &[u64],
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let letters = letters_of(ids);
        self.audit.begin("replay", &letters)?;
        let mut done = 0;
        let replayed = self.replay_all(&letters, &mut done, progress).await;
        replayed.map_err(|error| self.audit.fail("replay", &letters, done, error))
    }

    async fn replay_all(
        &mut self,
        letters: &[DeadLetterId],
        done: &mut usize,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let Stores { letters: store, buffer } = self.stores().await?;
        for step in letters.chunks(STEP) {
            let replayed = letters::replay(&buffer, &store, step, |mut message, from| {
                message.deadline = None;
                let replayed = buffer.replay(SystemClock.now(), message, from);
                replayed.map_err(|error| error.to_string())
            });
            let replayed = replayed.await.map_err(|error| failed(&error))?;
            let replayed: Vec<_> = replayed.into_iter().map(wire::replayed).collect();
            *done += replayed.len();
            let lines = self.audit.write(&replayed.iter().map(action).collect::<Vec<_>>())?;
            if letters.len() < LONG {
                shown(lines);
            }
            progress(replayed)?;
        }
        Ok(())
    }

    /// Removes them for good; how many there were.
    ///
    /// # Errors
    ///
    /// When a store fails, or the buffer cannot be opened or has damage that nobody knows of; then
    /// nothing is removed.
    pub(super) async fn purge(&mut self, ids: &[u64]) -> Result<u64, Failure> {
        let letters = letters_of(ids);
        self.audit.begin("purge", &letters)?;
        let purged = match self.stores().await {
            Ok(Stores { letters: store, buffer }) => {
                let purged = letters::purge(&buffer, &store, &letters).await;
                purged.map_err(|error| failed(&error))
            }
            Err(error) => Err(error),
        };
        let purged = purged.map_err(|error| self.audit.fail("purge", &letters, 0, error))?;
        let named = letters::in_words(&letters);
        shown(self.audit.write(&[format!("action=purge purged={purged} dead_letters={named:?}")])?);
        Ok(u64::try_from(purged).unwrap_or(u64::MAX))
    }

    /// Writes what is pending and releases the directory.
    pub(super) async fn close(self) {
        if let Some(Stores { letters, buffer }) = self.stores {
            letters.close().await;
            buffer.close().await;
        }
    }

    /// The stores, once what a crash left half dead is dead.
    async fn stores(&mut self) -> Result<Stores, Failure> {
        if let Some(stores) = &self.stores {
            return Ok(stores.clone());
        }
        // One that is not there must not be made: the letters would agree with nothing.
        let path = folder(&self.dir, BUFFER, "no buffer")?;
        refuse_unreported(&path)?;
        let storage = Arc::new(FileStorage);
        // None must be dropped here: the bounds are the node's business, and it knows them.
        let config = DeadLetterConfig { bytes_max: u64::MAX, ..DeadLetterConfig::default() };
        let opened = DeadLetters::open(&self.dir.join(DEAD_LETTERS), config, storage.clone());
        let (letters, found) = opened.map_err(|error| cannot_open(&error))?;
        tell_damage(&self.audit, DEAD_LETTERS, &found.gaps, found.torn_tail)?;
        let opened = Buffer::open(&path, BufferConfig::default(), storage.clone());
        let (buffer, found) = opened.map_err(|error| cannot_open(&error))?;
        tell_damage(&self.audit, BUFFER, &[], found.torn_tail)?;
        let path = self.dir.join(OUTCOMES);
        let opened = Outcomes::open(&path, OutcomeConfig::default(), storage);
        let (outcomes, found) = opened.map_err(|error| cannot_open(&error))?;
        tell_damage(&self.audit, OUTCOMES, &found.gaps, found.torn_tail)?;
        let dead = letters::finish_deaths(&buffer, &letters, &outcomes).await;
        let dead = dead.map_err(|error| failed(&error))?;
        tracing::debug!(dead = dead.count(), "dead letters and buffer agree");
        outcomes.close().await;
        Ok(self.stores.insert(Stores { letters, buffer }).clone())
    }
}

/// A folder of a data directory that has to be there.
fn folder(dir: &Path, name: &str, without: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    let text = format_args!(
        "{without}: {} is not a directory (name the data_dir of a node)",
        path.display()
    );
    Err(Failure::new(Exit::Io, text))
}

/// Opening a store sets damage aside, and the next start finds it known: whoever opens it tells it.
fn tell_damage(
    audit: &AuditLog,
    store: &str,
    gaps: &[Gap],
    torn_tail: Option<TornTail>,
) -> Result<(), Failure> {
    let gap = |gap: &Gap| {
        let (entries, Gap { segment, offset, .. }) = (entries_of(gap), gap);
        format!(
            "action=open store={store} damaged=true segment={segment} offset={offset} entries_lost={entries}"
        )
    };
    let tail = |TornTail { segment, offset }: TornTail| {
        format!("action=open store={store} torn_tail=true segment={segment} offset={offset}")
    };
    let mut lines: Vec<_> = gaps.iter().filter(|gap| !gap.is_known).map(gap).collect();
    lines.extend(torn_tail.map(tail));
    if !lines.is_empty() {
        shown(audit.write(&lines)?);
    }
    Ok(())
}

fn entries_of(gap: &Gap) -> u64 {
    gap.positions.map_or(0, |(first, last)| last.0.saturating_sub(first.0) + 1)
}

fn letters_of(ids: &[u64]) -> Vec<DeadLetterId> {
    ids.iter().copied().map(DeadLetterId).collect()
}

fn shown(lines: Vec<String>) {
    for line in lines {
        output::note(format_args!("audit: {line}"));
    }
}

fn action(replayed: &ReplayedLetter) -> String {
    let id = replayed.id;
    match replayed.result() {
        ReplayResult::Accepted => format!("action=replay dead_letter={id} seq={}", replayed.seq),
        ReplayResult::AlreadyAccepted => {
            format!("action=replay dead_letter={id} seq={} already=true", replayed.seq)
        }
        ReplayResult::Missing | ReplayResult::Unspecified => {
            format!("action=replay dead_letter={id} missing=true")
        }
        ReplayResult::Refused => {
            format!("action=replay dead_letter={id} refused={:?}", replayed.reason)
        }
    }
}

fn cannot_open(error: &OpenError) -> Failure {
    Failure::new(Exit::Io, error)
}

fn failed(error: &LettersError) -> Failure {
    Failure::new(Exit::Io, error)
}

#[cfg(test)]
mod tests;
