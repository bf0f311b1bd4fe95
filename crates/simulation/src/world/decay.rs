//! Bits that flip in files other than the records of a node's buffer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use alys_stream_protocol::message::MessageId;
use alys_stream_testkit::disk::Disk;

use super::World;
use crate::disk::letters;
use crate::journal::Fact;
use crate::ledger;
use crate::net::Machine;

/// Bytes at the beginning of a log that are not of an entry.
const HEADER: usize = 64;

/// What a file that is chosen has at least: behind the damage there is more, so that it does not pass
/// for a write that a crash cut off.
const BYTES_MIN: usize = 2048;

impl World {
    /// Flips a bit of a file of a machine that is down; says whether there was one.
    pub(super) fn decay(&mut self, machine: Machine) -> bool {
        let disk = self.hardware(machine).disk.clone();
        let files = files(&disk, machine.identity().is_some());
        if files.is_empty() {
            return false;
        }
        let (path, used) = &files[self.rng.usize(0..files.len())];
        let at = if has(path, ledger::FOLDER) || is_small(path) {
            self.rng.usize(0..*used)
        } else {
            self.rng.usize(HEADER..used / 2)
        };
        let before = messages(machine, &disk, path);
        if !disk.flip_bit(path, at, self.rng.u8(0..8)) {
            return false;
        }
        let lost: BTreeSet<_> =
            before.difference(&messages(machine, &disk, path)).copied().collect();
        self.note(machine, Fact::Fault(format!("a bit flips in {} at {at}", path.display())));
        match self.nodes.get_mut(&machine) {
            Some(site) => {
                site.history.worn += 1;
                site.history.are_ids_worn |= is_small(path);
                site.history.lost_letters.extend(lost);
            }
            None if has(path, ledger::FOLDER) => {
                self.history.lost_lines.extend(lost.into_iter().map(|id| (machine, id)));
            }
            None => self.history.worn += 1,
        }
        true
    }
}

/// The files of which a bit may flip, and how many bytes of each are in use.
fn files(disk: &Disk, is_node: bool) -> Vec<(PathBuf, usize)> {
    let is_log = |path: &Path| path.extension().is_some_and(|it| it == "segment");
    let is_meant = |path: &Path| match is_node {
        true => {
            is_small(path) || (is_log(path) && (has(path, "dead_letters") || has(path, "inbox")))
        }
        false => has(path, ledger::FOLDER) || (is_log(path) && has(path, "inbox")),
    };
    let used = |path: &PathBuf| {
        let bytes = disk.cached_file(path)?;
        let used = bytes.iter().rposition(|byte| *byte != 0)? + 1;
        (!is_log(path) || used >= BYTES_MIN).then_some(used)
    };
    let paths = disk.paths().into_iter().filter(|path| is_meant(path));
    paths.filter_map(|path| used(&path).map(|used| (path, used))).collect()
}

fn has(path: &Path, part: &str) -> bool {
    path.components().any(|it| it.as_os_str() == part)
}

/// The mark of a node's buffer, and its files of ids.
fn is_small(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    has(path, "buffer") && (name == "mark" || name.starts_with("ids-"))
}

/// The messages that a file of a ledger, or of dead letters, has.
fn messages(machine: Machine, disk: &Disk, path: &Path) -> BTreeSet<MessageId> {
    let bytes = disk.cached_file(path);
    if has(path, "dead_letters") {
        return bytes.map(|bytes| letters(machine, path, &bytes)).unwrap_or_default();
    }
    let bytes = bytes.filter(|_| has(path, ledger::FOLDER));
    let file = bytes.into_iter().map(|bytes| (path.to_owned(), bytes)).collect();
    ledger::applied(&file).into_iter().map(|it| it.id).collect()
}
