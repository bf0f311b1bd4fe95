//! Dead letters read without becoming their owner: no lock, no epoch, not a byte written.

use std::io;
use std::path::{Path, PathBuf};

use super::state::{State, rebuild};
use super::{DeadLetter, DeadLetterId, DeadLetters, ReadLetters, codec};
use crate::log::{self, EntryReader, Event, Gap, Location, Looked, OpenError, ReadError, Visit};
use crate::storage::Storage;

/// Takes in what the log has.
struct Rebuild<'s>(&'s mut State);

impl Visit for Rebuild<'_> {
    fn event(&mut self, event: Event<'_>) {
        rebuild(self.0, &event);
    }
}

/// The dead letters of a directory as they were when it was looked at.
#[derive(Debug)]
pub struct LookedLetters {
    dir: PathBuf,
    /// None when there is no log.
    looked: Option<Looked>,
    state: State,
}

impl DeadLetters {
    /// Looks at the store in a directory that nobody has open, and writes nothing: what is damaged is
    /// left for the next open to set aside and report.
    ///
    /// # Errors
    ///
    /// When somebody has it open, it is of a newer version, or the disk says no.
    pub fn look(dir: &Path, storage: &dyn Storage) -> Result<LookedLetters, OpenError> {
        if let Some(pid) = log::probe(dir, storage)? {
            return Err(OpenError::Locked { dir: dir.to_path_buf(), pid });
        }
        let mut state = State::default();
        let looked = log::look(dir, storage, &mut Rebuild(&mut state))?;
        Ok(LookedLetters { dir: dir.to_path_buf(), looked, state })
    }
}

impl LookedLetters {
    /// What cannot be read.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        self.looked.as_ref().map_or(&[], |looked| &looked.recovery.gaps)
    }

    fn read(&self, location: Location) -> Result<DeadLetter, ReadError> {
        let Location { segment, offset, .. } = location;
        let offset = u64::from(offset);
        let damaged = ReadError::Damaged { segment, offset };
        let Some(looked) = &self.looked else { return Err(damaged) };
        let bytes = EntryReader::new(&self.dir, looked).read(location);
        let bytes = bytes.map_err(|error| {
            let source = io::Error::other(error);
            ReadError::Io { segment, offset, source }
        })?;
        bytes.and_then(|bytes| codec::decode(&bytes)).ok_or(damaged)
    }
}

impl ReadLetters for LookedLetters {
    fn get(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, ReadError> {
        let location = self.state.kept.get(&id.0).and_then(|kept| kept.location);
        location.map(|location| self.read(location)).transpose()
    }

    fn list(
        &self,
        after: Option<DeadLetterId>,
        count: usize,
    ) -> Result<Vec<(DeadLetterId, DeadLetter)>, ReadError> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let kept =
            self.state.kept.range(from..).filter_map(|(id, kept)| Some((*id, kept.location?)));
        let read = |(id, location)| Ok((DeadLetterId(id), self.read(location)?));
        kept.take(count).map(read).collect()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.state.kept.len()).unwrap_or(u64::MAX)
    }
}
