//! Where each epoch of the log began, so that an old copy of it is found out by whoever has seen a
//! later record, however much the copy has accepted since (D12).
//!
//! Two histories of a log part where one of them is opened. A peer knows the opening in which it
//! received the latest record, and the number of that. Either that opening is not one of ours; or it
//! is, and then the number must be below the first of our next one.
//!
//! `openings`, little endian; written anew by every opening, before anything is sent under it:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSOPEN` |
//! | 8 | 4 | format version |
//! | 12 | 4 | count of openings |
//! | 16 | 16 | `log_id` |
//! | 32 | 24 × count | epoch (8), nonce (8), seq that its first message got or would have got (8), ascending |
//! | 32 + 24 × count | 4 | CRC-32C of everything before |
//!
//! A file that does not verify, or is of another log, is as good as none: of earlier epochs nothing
//! is known then, as with a log that is older than this file.
//!
//! Invariants:
//! - M38: nothing is accepted under an opening that is not in the synced file, and no peer is told
//!   its nonce.

use std::io;
use std::path::Path;

use alys_stream_protocol::message::{Epoch, EpochNonce, LogId, Opening, Seq};

use crate::log::{Log, OpenError};
use crate::storage::Storage;
use crate::{log, sealed};

const FILE: &str = "openings";
const MAGIC: [u8; 8] = *b"ALYSOPEN";
const VERSION: u32 = 1;

/// Most openings: the oldest are forgotten.
const OPENINGS_MAX: usize = 4096;

const FILE_BYTES_MAX: usize = 32 + 24 * OPENINGS_MAX + 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    opening: Opening,
    first: Seq,
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
    ) -> Result<Self, OpenError> {
        let (log_id, epoch) = (log.log_id(), log.epoch());
        let mut begun = read(storage, dir, log_id).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "former openings of the log are not known");
            Vec::new()
        });
        begun.retain(|it| it.opening.epoch < epoch);
        let forgotten = (begun.len() + 1).saturating_sub(OPENINGS_MAX);
        begun.drain(..forgotten);
        begun.push(Begun { opening: Opening { epoch, nonce: mint(storage) }, first });
        let bytes = encode(log_id, &begun);
        let path = dir.join(FILE);
        let write = || log::replace_with(storage, &path, |file| file.write_at(&bytes, 0));
        log.with_space(write).map_err(|source| OpenError::from_io("writing", &path, source))?;
        Ok(Self { begun })
    }

    pub(super) fn present(&self) -> Opening {
        self.begun.last().map_or(Opening::NONE, |it| it.opening)
    }

    /// Whether somebody who received `highest` in the opening `seen` cannot have it from this log.
    pub(super) fn contradict(&self, seen: Opening, highest: Seq) -> bool {
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
                it.opening != seen || next.is_some_and(|next| highest >= next.first)
            }
        }
    }
}

/// Copies the file, for a copy of the log that is to take its place.
pub(crate) fn copy(from: &Path, to: &Path, storage: &dyn Storage) -> io::Result<()> {
    let Some(bytes) = read_bytes(storage, from)? else { return Ok(()) };
    log::replace_with(storage, &to.join(FILE), |file| file.write_at(&bytes, 0)).map(drop)
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
        for Begun { opening: Opening { epoch, nonce }, first } in begun {
            for number in [epoch.0, nonce.0, first.0] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
    })
}

fn decode(bytes: &[u8]) -> Option<(LogId, Vec<Begun>)> {
    let mut reader = sealed::decode(bytes, MAGIC, VERSION)?;
    let count = reader.u32()?;
    let log_id = LogId::new(reader.array()?);
    let mut next = || {
        let opening = Opening { epoch: Epoch(reader.u64()?), nonce: EpochNonce(reader.u64()?) };
        Some(Begun { opening, first: Seq(reader.u64()?) })
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

    /// Epochs 4, 6 and 7, which began at 10, 20 and 20.
    fn openings() -> Openings {
        let begun = [(4, 40, 10), (6, 60, 20), (7, 70, 20)].map(|(epoch, nonce, first)| Begun {
            opening: opening(epoch, nonce),
            first: Seq(first),
        });
        Openings { begun: begun.to_vec() }
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
            (opening(7, 70), 500),
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
            (opening(8, 80), 5),
        ];
        check(seen, true);
    }
}
