//! The content of one file: what is cached, what is stored, and the writes between the two.

use fastrand::Rng;

/// What a device stores whole or, when the power fails, in part from its beginning.
pub const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    cached: Vec<u8>,
    stored: Vec<u8>,
    /// In the order in which they were made.
    unsynced: Vec<Write>,
    /// A sync of it failed (K3).
    pub(super) is_failed: bool,
}

#[derive(Debug, Clone)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl Node {
    pub(super) fn stored(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), stored: bytes, ..Self::default() }
    }

    pub(super) fn cached_bytes(&self) -> &[u8] {
        &self.cached
    }

    pub(super) fn stored_bytes(&self) -> &[u8] {
        &self.stored
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.cached, offset, bytes);
        self.unsynced.push(Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            put(&mut self.stored, write.offset, &write.bytes);
        }
    }

    /// A sync that fails: part of it may be stored, and the rest is forgotten (K3).
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.tear(rng);
        self.is_failed = true;
    }

    /// The power fails and nothing unsynced was stored.
    pub(super) fn lose(&mut self) {
        self.unsynced.clear();
        self.restart();
    }

    /// The power fails and anything unsynced may have been stored (K2). Says whether a part of it was,
    /// and a part was not.
    pub(super) fn lose_in_part(&mut self, rng: &mut Rng) -> bool {
        let (kept, all) = self.tear(rng);
        self.restart();
        0 < kept && kept < all
    }

    /// The machine goes on and the process does not: what failed to be stored is still read, and
    /// counts as clean.
    pub(super) const fn kill(&mut self) {
        self.is_failed = false;
    }

    fn restart(&mut self) {
        self.cached.clone_from(&self.stored);
        self.is_failed = false;
    }

    /// Stores a part of what is unsynced, or all, or nothing; of how many bytes how many.
    fn tear(&mut self, rng: &mut Rng) -> (usize, usize) {
        let (mut kept, mut all) = (0, 0);
        for write in self.unsynced.drain(..) {
            all += write.bytes.len();
            match rng.u8(..4) {
                0 => {
                    put(&mut self.stored, write.offset, &write.bytes);
                    kept += write.bytes.len();
                }
                1 => {}
                // The length without the bytes.
                2 => {
                    let end = write.offset + write.bytes.len();
                    if self.stored.len() < end {
                        self.stored.resize(end, 0);
                    }
                }
                _ => kept += tear_write(&mut self.stored, &write, rng),
            }
        }
        (kept, all)
    }

    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) -> bool {
        let mask = 1_u8.rotate_left(u32::from(bit));
        let Some(byte) = self.cached.get_mut(offset) else {
            return false;
        };
        *byte ^= mask;
        if let Some(byte) = self.stored.get_mut(offset) {
            *byte ^= mask;
        }
        for write in &mut self.unsynced {
            let at = offset.checked_sub(write.offset);
            if let Some(byte) = at.and_then(|at| write.bytes.get_mut(at)) {
                *byte ^= mask;
            }
        }
        true
    }
}

/// Stores some sectors of a write, and the beginning of others; how many bytes of it.
fn tear_write(stored: &mut Vec<u8>, write: &Write, rng: &mut Rng) -> usize {
    let (mut done, mut kept) = (0, 0);
    while let Some(rest) = write.bytes.get(done..)
        && !rest.is_empty()
    {
        let offset = write.offset + done;
        let in_sector = SECTOR_BYTES - offset % SECTOR_BYTES;
        let piece = rest.get(..in_sector).unwrap_or(rest);
        let stays = match rng.u8(..8) {
            0..4 => piece,
            4..7 => &[],
            _ => piece.get(..rng.usize(..piece.len())).unwrap_or_default(),
        };
        put(stored, offset, stays);
        kept += stays.len();
        done += piece.len();
    }
    kept
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(target) = content.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}
