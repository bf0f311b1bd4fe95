//! Reads the lines of one file, and cuts off those that were never durable.

use std::io;
use std::path::Path;

use alys_stream_messaging::storage::Storage;

use super::slot::{SLOT_BYTES, decode};
use super::{Application, SLOTS, offset};

/// What is in a file.
#[derive(Debug)]
pub(super) struct Lines {
    /// In the order of their slots.
    pub(super) applications: Vec<Application>,
    /// The slot after the last one that is not blank.
    pub(super) next_slot: usize,
}

/// What the slots of a file say, up to one of them.
#[derive(Debug, Default)]
struct Found {
    lines: Vec<Application>,
    damaged: usize,
    next_slot: usize,
    /// Where the first slot without a line is, when behind it stand lines of messages alone that will
    /// come again; how many lines and how much damage there are before it.
    torn: Option<Torn>,
}

#[derive(Debug, Clone, Copy)]
struct Torn {
    slot: usize,
    lines: usize,
    damaged: usize,
}

impl Lines {
    /// Reads a file. Lines that `is_unhandled` says will come again are blanked when a hole stands
    /// before them (G20).
    pub(super) fn read(
        storage: &dyn Storage,
        path: &Path,
        number: u32,
        is_unhandled: &dyn Fn(&Application) -> bool,
    ) -> io::Result<Self> {
        let file = storage.open(path)?;
        let mut bytes = vec![0; SLOTS * SLOT_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let mut found = Found::read(number, &bytes, is_unhandled);
        if let Some(torn) = found.torn {
            tracing::warn!(
                path = %path.display(), slot = torn.slot,
                "the last lines of the ledger were not finished; they are cut off at the first hole"
            );
            let blank = vec![0; (found.next_slot - torn.slot) * SLOT_BYTES];
            file.write_at(&blank, offset(torn.slot))?;
            file.sync_data()?;
            found.cut(torn);
        }
        let Found { lines: applications, damaged, next_slot, .. } = found;
        if damaged > 0 {
            tracing::warn!(path = %path.display(), damaged, "ledger slots do not verify and are not counted");
        }
        Ok(Self { applications, next_slot })
    }
}

impl Found {
    fn read(number: u32, bytes: &[u8], is_unhandled: &dyn Fn(&Application) -> bool) -> Self {
        let (mut this, mut hole) = (Self::default(), None);
        let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
        for (place, slot) in slots.iter().enumerate() {
            let is_blank = slot.iter().all(|byte| *byte == 0);
            if !is_blank {
                this.next_slot = place + 1;
            }
            let Some(line) = decode(number, slot) else {
                let (lines, damaged) = (this.lines.len(), this.damaged);
                hole.get_or_insert(Torn { slot: place, lines, damaged });
                this.damaged += usize::from(!is_blank);
                continue;
            };
            if hole.is_some() {
                let is_torn = is_unhandled(&line);
                hole = hole.filter(|_| is_torn);
                this.torn = hole;
            }
            this.lines.push(line);
        }
        this
    }

    fn cut(&mut self, torn: Torn) {
        self.lines.truncate(torn.lines);
        (self.damaged, self.next_slot) = (torn.damaged, torn.slot);
    }
}
