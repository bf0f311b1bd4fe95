//! Where each epoch of the log began, so that an old copy of it is found out by whoever has seen a
//! later record, however much the copy has accepted since (D12).
//!
//! Two histories of a log part where one of them is opened. A peer knows the opening in which it
//! received the latest record, and the number of that. Either that opening is not one of ours; or it
//! is, and then the number must be below the first of our next one.
//!
//! A peer also knows the opening in which it was told last that something is over, and how much was
//! by then. An old copy to which nothing was added knows of less: it would send that again, and the
//! peer has forgotten it.
//!
//! `openings`, little endian; written anew by every opening, before anything is sent under it:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSOPEN` |
//! | 8 | 4 | format version |
//! | 12 | 4 | count of openings |
//! | 16 | 16 | `log_id` |
//! | 32 | 32 × count | epoch (8), nonce (8), seq that its first message got or would have got (8), messages that were settled when it began (8; all ones: not known), ascending |
//! | 32 + 32 × count | 4 | CRC-32C of everything before |
//!
//! Version 1 has 24 bytes for each opening, without what was settled.
//! Where a start found damage, it is not known what was settled: the damage may have taken it.
//!
//! A file that does not verify, or is of another log, is as good as none: of earlier epochs nothing
//! is known then, as with a log that is older than this file.
//!
//! Invariants:
//! - M38: nothing is accepted under an opening that is not in the synced file, and no peer is told
//!   its nonce.

use std::io;
use std::path::Path;

use alys_stream_protocol::message::{Epoch, EpochNonce, Forgotten, LogId, Opening, Seq};

use crate::log::{Log, OpenError};
use crate::storage::Storage;
use crate::{log, sealed};

const FILE: &str = "openings";
const MAGIC: [u8; 8] = *b"ALYSOPEN";
const VERSION: u32 = 2;
const VERSION_WITHOUT_COUNTS: u32 = 1;

/// Most openings: the oldest are forgotten.
const OPENINGS_MAX: usize = 4096;

const FILE_BYTES_MAX: usize = 32 + 32 * OPENINGS_MAX + 4;

/// In the file, for what is not known.
const NOT_KNOWN: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    opening: Opening,
    first: Seq,
    /// How many messages were settled when it began, if nothing of that can have been lost.
    settled_count: Option<u64>,
}

/// The openings of one log, the present one last.
#[derive(Debug)]
pub(super) struct Openings {
    begun: Vec<Begun>,
}

impl Openings {
    /// Adds the present opening to those before it. The log must not go on without: nobody could
    /// tell any more where the opening before it ended.
    pub(super) fn open(
        storage: &dyn Storage,
        dir: &Path,
        log: &Log,
        first: Seq,
        settled_count: Option<u64>,
    ) -> Result<Self, OpenError> {
        let (log_id, epoch) = (log.log_id(), log.epoch());
        let opening = Opening { epoch, nonce: mint(storage) };
        let begun = with_next(storage, dir, log_id, Begun { opening, first, settled_count });
        log.with_space(|| write(storage, dir, log_id, &begun))
            .map_err(|source| OpenError::from_io("writing", &dir.join(FILE), source))?;
        Ok(Self { begun })
    }

    pub(super) fn present(&self) -> Opening {
        self.begun.last().map_or(Opening::NONE, |it| it.opening)
    }

    /// Whether somebody who received `highest` in the opening `seen` cannot have it from this log.
    pub(super) fn contradict(&self, seen: Opening, highest: Seq) -> bool {
        self.has_none_such(seen, |next| highest >= next.first)
    }

    /// Whether somebody was told of more that is settled than this log had when it was opened again.
    pub(super) fn are_outlived_by(&self, forgotten: Forgotten) -> bool {
        let settled_count = forgotten.settled_count;
        self.has_none_such(forgotten.opening, |next| {
            next.settled_count.is_some_and(|known| settled_count > known)
        })
    }

    /// Whether this log had no such opening, or `is_later` says of the next one that it is later than
    /// what somebody knows of this one.
    fn has_none_such(&self, seen: Opening, is_later: impl FnOnce(&Begun) -> bool) -> bool {
        if !seen.nonce.is_known() {
            return false;
        }
        let at = self.begun.partition_point(|it| it.opening.epoch < seen.epoch);
        match self.begun.get(at) {
            // One that this log never had; before the first nothing is known.
            Some(it) if it.opening.epoch > seen.epoch => at > 0,
            None => true,
            Some(it) => {
                let next = self.begun.get(at + 1);
                it.opening != seen || next.is_some_and(is_later)
            }
        }
    }
}

/// Writes the openings of a log for what was repaired of it, which is to go on from `next` as `epoch`:
/// an opening too, before which nobody knows what was settled.
pub(crate) fn copy_repaired(
    from: &Path,
    to: &Path,
    storage: &dyn Storage,
    (log_id, epoch): (LogId, Epoch),
    next: Seq,
) -> io::Result<()> {
    let repaired = Begun { opening: epoch.into(), first: next, settled_count: None };
    write(storage, to, log_id, &with_next(storage, from, log_id, repaired))
}

/// What is known of the openings in a directory, and one more.
fn with_next(storage: &dyn Storage, dir: &Path, log_id: LogId, next: Begun) -> Vec<Begun> {
    let mut begun = read(storage, dir, log_id).unwrap_or_else(|error| {
        tracing::warn!(dir = %dir.display(), %error, "former openings of the log are not known");
        Vec::new()
    });
    begun.retain(|it| it.opening.epoch < next.opening.epoch);
    let forgotten = (begun.len() + 1).saturating_sub(OPENINGS_MAX);
    begun.drain(..forgotten);
    begun.push(next);
    begun
}

fn write(storage: &dyn Storage, dir: &Path, log_id: LogId, begun: &[Begun]) -> io::Result<()> {
    let bytes = encode(log_id, begun);
    log::replace_with(storage, &dir.join(FILE), |file| file.write_at(&bytes, 0)).map(drop)
}

/// The latest epoch that began of this log, as far as is known.
pub(super) fn latest_epoch(storage: &dyn Storage, dir: &Path, log_id: LogId) -> Epoch {
    let begun = read(storage, dir, log_id).unwrap_or_default();
    begun.last().map_or(Epoch(0), |it| it.opening.epoch)
}

fn mint(storage: &dyn Storage) -> EpochNonce {
    let random = storage.mint_log_id();
    let number = random.as_bytes().first_chunk().copied().map_or(1, u64::from_le_bytes);
    EpochNonce(number.max(1))
}

fn read(storage: &dyn Storage, dir: &Path, log_id: LogId) -> io::Result<Vec<Begun>> {
    let Some(bytes) = read_bytes(storage, dir)? else { return Ok(Vec::new()) };
    let (of, begun) =
        decode(&bytes).ok_or_else(|| io::Error::other(format!("{FILE} does not verify")))?;
    // Of another one: the log was adopted.
    Ok(if of == log_id { begun } else { Vec::new() })
}

fn read_bytes(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(&dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    sealed::read(&*file, FILE_BYTES_MAX).map(Some)
}

fn encode(log_id: LogId, begun: &[Begun]) -> Vec<u8> {
    sealed::encode(MAGIC, VERSION, |bytes| {
        bytes.extend_from_slice(&u32::try_from(begun.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(log_id.as_bytes());
        for Begun { opening: Opening { epoch, nonce }, first, settled_count } in begun {
            for number in [epoch.0, nonce.0, first.0, settled_count.unwrap_or(NOT_KNOWN)] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
    })
}

fn decode(bytes: &[u8]) -> Option<(LogId, Vec<Begun>)> {
    let newest = sealed::decode(bytes, MAGIC, VERSION);
    let has_counts = newest.is_some();
    let mut reader = newest.or_else(|| sealed::decode(bytes, MAGIC, VERSION_WITHOUT_COUNTS))?;
    let count = reader.u32()?;
    let log_id = LogId::new(reader.array()?);
    let mut next = || {
        let opening = Opening { epoch: Epoch(reader.u64()?), nonce: EpochNonce(reader.u64()?) };
        let first = Seq(reader.u64()?);
        let settled_count = if has_counts { reader.u64()? } else { NOT_KNOWN };
        let settled_count = (settled_count != NOT_KNOWN).then_some(settled_count);
        Some(Begun { opening, first, settled_count })
    };
    let begun = (0..count).map(|_| next()).collect::<Option<_>>()?;
    Some((log_id, begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId::new([7; 16]);

    fn opening(epoch: u64, nonce: u64) -> Opening {
        Opening { epoch: Epoch(epoch), nonce: EpochNonce(nonce) }
    }

    /// Epochs 4, 6, 7 and 8, which began at 10, 20, 20 and 20, with 5, 15, 18 and an unknown number
    /// of messages settled.
    fn openings() -> Openings {
        let of = |(epoch, nonce, first, settled_count)| Begun {
            opening: opening(epoch, nonce),
            first: Seq(first),
            settled_count,
        };
        let begun = [(4, 40, 10, Some(5)), (6, 60, 20, Some(15)), (7, 70, 20, Some(18))].map(of);
        let unknown = of((8, 80, 20, None));
        Openings { begun: begun.into_iter().chain([unknown]).collect() }
    }

    #[track_caller]
    fn check<const N: usize>(seen: [(Opening, u64); N], contradicts: bool) {
        let openings = openings();
        for (seen, highest) in seen {
            let found = openings.contradict(seen, Seq(highest));
            assert_eq!(found, contradicts, "{seen:?} {highest}");
        }
    }

    #[test]
    fn what_was_written_is_read_and_every_flipped_byte_is_noticed() {
        let begun = openings().begun;
        let bytes = encode(LOG, &begun);
        assert_eq!(decode(&bytes), Some((LOG, begun)));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert_eq!(decode(&flipped), None, "{at}");
            assert_eq!(decode(&bytes[..at]), None, "{at}");
        }
    }

    #[test]
    fn whoever_saw_what_this_log_gave_agrees() {
        let seen = [
            (opening(4, 40), 19),
            (opening(6, 60), 19),
            (opening(7, 70), 19),
            (opening(8, 80), 500),
            // Not known, or of before what is remembered.
            (Opening::NONE, 500),
            (Epoch(6).into(), 500),
            (opening(3, 1), 500),
        ];
        check(seen, false);
    }

    #[test]
    fn whoever_saw_anything_else_contradicts() {
        let seen = [
            // More than that epoch gave.
            (opening(4, 40), 20),
            (opening(6, 60), 20),
            // The same epoch of another process.
            (opening(4, 41), 5),
            (opening(7, 71), 5),
            // Epochs that this log never had.
            (opening(5, 50), 5),
            (opening(9, 90), 5),
        ];
        check(seen, true);
    }

    #[test]
    fn what_was_over_before_the_next_opening_is_known_to_be() {
        let told = [
            (opening(4, 40), 15, false),
            (opening(4, 40), 16, true),
            (opening(6, 60), 18, false),
            (opening(6, 60), 19, true),
            // Damage may have taken what the next one does not know of.
            (opening(7, 70), 500, false),
            (opening(8, 80), 500, false),
            (opening(7, 71), 1, true),
            (opening(9, 90), 1, true),
            (Opening::NONE, 500, false),
        ];
        for (opening, settled_count, is_outlived) in told {
            let forgotten = Forgotten { opening, settled_count };
            assert_eq!(openings().are_outlived_by(forgotten), is_outlived, "{forgotten:?}");
        }
    }

    #[test]
    fn a_file_that_counts_no_settlements_is_read() {
        let bytes = sealed::encode(MAGIC, VERSION_WITHOUT_COUNTS, |bytes| {
            bytes.extend_from_slice(&1_u32.to_le_bytes());
            bytes.extend_from_slice(LOG.as_bytes());
            [4_u64, 40, 10].iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
        });
        let begun = Begun { opening: opening(4, 40), first: Seq(10), settled_count: None };
        assert_eq!(decode(&bytes), Some((LOG, vec![begun])));
    }
}
