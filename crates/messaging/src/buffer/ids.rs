//! Which ids were accepted already (M10), without a place in memory for each.
//!
//! Ids are in groups of consecutive seqs. The newest group is a map in memory. A full one is
//! sealed: sorted, with a filter in memory, and written to a file of its own by the thread that
//! does slow file work; until then, and when that does not work, it stays in memory. Nothing of
//! the files is needed after the process: they are made anew from the log at every start.
//!
//! Invariants:
//! - M33: every id that lives is in exactly one group, of the place it has now; a group goes only
//!   when everything in it is settled and enough was settled after it.
//! - M34: an id that cannot be looked up is never taken for a new one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{MessageId, Seq};

use crate::storage::Storage;

mod filter;
mod spill;

use filter::Filter;
use spill::Spill;

/// Most groups that one settlement holds: a longer one was of a long backlog, whose ids need not
/// be remembered longer than others.
const HELD_MAX: u64 = 64;

/// An id and its place within its group.
type Entry = (MessageId, u32);

/// An id that cannot be looked up at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdsUnreadable;

#[derive(Debug)]
pub(super) struct Ids {
    group_seqs: u64,
    settled_ids_max: u64,
    newest: Newest,
    /// Full groups, by number.
    sealed: BTreeMap<u64, Sealed>,
    /// Of those, the ones with nothing unsettled, and how much was settled until then.
    finished: VecDeque<(u64, u64)>,
    /// Groups of which something was settled last, while the log is read: they count as settled
    /// when all of it was read.
    held: BTreeSet<u64>,
    /// How much was settled so far.
    settled: u64,
    /// How many ids there are.
    count: u64,
    /// Sealed groups that are to be written.
    unwritten: VecDeque<u64>,
    /// Groups whose files are to be removed.
    gone: Vec<u64>,
    memory_bytes: usize,
}

#[derive(Debug)]
struct Newest {
    number: u64,
    /// Empty while the log is read: nothing is looked up then, and most groups are sealed unasked.
    map: HashMap<MessageId, u32>,
    is_mapped: bool,
    /// The same in the order of seq.
    list: Vec<Entry>,
    unsettled: u64,
}

#[derive(Debug)]
struct Sealed {
    unsettled: u64,
    count: u64,
    /// Lowest and highest: ids are most often made in the order of time, and then new ones are
    /// above all of them.
    range: Option<(MessageId, MessageId)>,
    filter: Filter,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Memory(Arc<Vec<Entry>>),
    Written(Arc<Spill>),
}

/// Work for the thread that does slow file work.
#[derive(Debug)]
pub(super) enum Chore {
    /// A group is to be written.
    Write(u64, Arc<Vec<Entry>>),
    /// Files of groups that went are to be removed.
    Remove(Vec<u64>),
}

/// The two halves of an id, in the order of ids.
fn words(id: &MessageId) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *id.as_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
}

impl Ids {
    pub(super) fn new(group_seqs: u64, settled_ids_max: usize) -> Self {
        let map = HashMap::new();
        let newest = Newest { number: 0, map, is_mapped: true, list: Vec::new(), unsettled: 0 };
        Self {
            group_seqs,
            settled_ids_max: u64::try_from(settled_ids_max).unwrap_or(u64::MAX),
            newest,
            sealed: BTreeMap::new(),
            finished: VecDeque::new(),
            held: BTreeSet::new(),
            settled: 0,
            count: 0,
            unwritten: VecDeque::new(),
            gone: Vec::new(),
            memory_bytes: 0,
        }
    }

    /// The same for reading the log: nothing can be looked up until [`Ids::handle_read`].
    pub(super) fn unread(group_seqs: u64, settled_ids_max: usize) -> Self {
        let mut this = Self::new(group_seqs, settled_ids_max);
        this.newest.is_mapped = false;
        this
    }

    /// How many ids are remembered.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of memory of sealed groups, those not counted that wait to be written.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Adds an id; seqs ascend. `true` when that left a [`Chore`] behind.
    pub(super) fn insert(&mut self, id: MessageId, seq: u64, is_unsettled: bool) -> bool {
        let number = seq / self.group_seqs;
        let is_sealing = number > self.newest.number && !self.newest.list.is_empty();
        if is_sealing {
            self.seal();
        }
        self.newest.number = self.newest.number.max(number);
        let place = u32::try_from(seq % self.group_seqs).unwrap_or(u32::MAX);
        if self.newest.is_mapped {
            self.newest.map.insert(id, place);
        }
        self.newest.list.push((id, place));
        self.count += 1;
        if is_unsettled {
            self.newest.unsettled += 1;
        } else {
            self.settled += 1;
        }
        is_sealing
    }

    fn seal(&mut self) {
        let capacity = self.newest.list.capacity();
        let mut entries = std::mem::replace(&mut self.newest.list, Vec::with_capacity(capacity));
        self.newest.map.clear();
        // Of two places of one id, which a replayed message has, the later one counts.
        entries.sort_unstable();
        let before = entries.len();
        entries.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                kept.1 = later.1;
            }
            is_same
        });
        self.count -= u64::try_from(before - entries.len()).unwrap_or(0);
        let mut filter = Filter::new(entries.len());
        entries.iter().for_each(|(id, _)| filter.insert(id));
        let range = entries.first().zip(entries.last()).map(|(first, last)| (first.0, last.0));
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let unsettled = std::mem::take(&mut self.newest.unsettled);
        let number = self.newest.number;
        self.memory_bytes += filter.bytes();
        let body = Body::Memory(Arc::new(entries));
        self.sealed.insert(number, Sealed { unsettled, count, range, filter, body });
        self.unwritten.push_back(number);
        if unsettled == 0 && !self.held.contains(&number) {
            self.finished.push_back((self.settled, number));
        }
        self.forget_old();
    }

    /// Some of the last messages that were settled are these, say entries that were read ahead.
    pub(super) fn hold(&mut self, range: &RangeInclusive<Seq>) {
        let (first, last) = (range.start().0 / self.group_seqs, range.end().0 / self.group_seqs);
        if last - first < HELD_MAX {
            self.held.extend(first..=last);
        }
    }

    /// Everything was read.
    pub(super) fn handle_read(&mut self) {
        self.newest.is_mapped = true;
        self.newest.map = self.newest.list.iter().copied().collect();
        for number in std::mem::take(&mut self.held) {
            if self.sealed.get(&number).is_some_and(|group| group.unsettled == 0) {
                self.finished.push_back((self.settled, number));
            }
        }
        self.forget_old();
    }

    /// So many of the messages from `seq` on, all of one group, were settled. `true` when that left
    /// a [`Chore`] behind.
    pub(super) fn handle_settled(&mut self, seq: u64, count: u64) -> bool {
        self.settled += count;
        let number = seq / self.group_seqs;
        if number == self.newest.number {
            self.newest.unsettled = self.newest.unsettled.saturating_sub(count);
        } else if let Some(group) = self.sealed.get_mut(&number)
            && group.unsettled > 0
        {
            group.unsettled = group.unsettled.saturating_sub(count);
            if group.unsettled == 0 && !self.held.contains(&number) {
                self.finished.push_back((self.settled, number));
            }
        }
        self.forget_old();
        !self.gone.is_empty()
    }

    /// Forgets groups after which enough was settled (M33).
    fn forget_old(&mut self) {
        while let Some((settled, number)) = self.finished.front()
            && self.settled - settled >= self.settled_ids_max
        {
            if let Some(group) = self.sealed.remove(number) {
                self.count -= group.count;
                self.memory_bytes -= group.filter.bytes();
                match group.body {
                    Body::Written(spill) => {
                        self.memory_bytes -= spill.bytes();
                        self.gone.push(*number);
                    }
                    Body::Memory(_) => {}
                }
            }
            self.finished.pop_front();
        }
    }

    /// The place of an id.
    pub(super) fn lookup(&self, id: &MessageId) -> Result<Option<Seq>, IdsUnreadable> {
        debug_assert!(
            self.newest.is_mapped,
            "invariant: nothing is looked up while the log is read"
        );
        if let Some(place) = self.newest.map.get(id) {
            return Ok(Some(self.seq(self.newest.number, *place)));
        }
        // The latest place counts: a replayed message has two.
        for (number, group) in self.sealed.iter().rev() {
            if !group.may_contain(id) {
                continue;
            }
            let found = group.find(id).map_err(|error| {
                tracing::error!(%error, group = number, "a file of ids cannot be read");
                IdsUnreadable
            })?;
            if let Some(place) = found {
                return Ok(Some(self.seq(*number, place)));
            }
        }
        Ok(None)
    }

    /// The place of an id, if it is at `from` or later: none of those groups is on disk only.
    pub(super) fn lookup_from(&self, from: u64, id: &MessageId) -> Option<Seq> {
        if let Some(place) = self.newest.map.get(id) {
            return Some(self.seq(self.newest.number, *place)).filter(|seq| seq.0 >= from);
        }
        let groups = self.sealed.range(from / self.group_seqs..);
        let found = groups.rev().find_map(|(number, group)| match &group.body {
            Body::Memory(entries) => find(entries, id).map(|place| self.seq(*number, place)),
            Body::Written(_) => None,
        });
        found.filter(|seq| seq.0 >= from)
    }

    const fn seq(&self, number: u64, place: u32) -> Seq {
        Seq(number * self.group_seqs + place as u64)
    }

    /// Takes something to do.
    pub(super) fn take_chore(&mut self) -> Option<Chore> {
        if !self.gone.is_empty() {
            return Some(Chore::Remove(std::mem::take(&mut self.gone)));
        }
        while let Some(number) = self.unwritten.pop_front() {
            if let Some(Sealed { body: Body::Memory(entries), .. }) = self.sealed.get(&number) {
                return Some(Chore::Write(number, Arc::clone(entries)));
            }
        }
        None
    }

    fn install(&mut self, number: u64, written: io::Result<Spill>) {
        let spill = match written {
            Ok(spill) => spill,
            Err(error) => {
                tracing::warn!(%error, group = number, "ids stay in memory");
                self.unwritten.push_back(number);
                return;
            }
        };
        match self.sealed.get_mut(&number) {
            Some(group) => {
                self.memory_bytes += spill.bytes();
                group.body = Body::Written(Arc::new(spill));
            }
            // Forgotten meanwhile.
            None => self.gone.push(number),
        }
    }
}

impl Chore {
    /// Does it; what came of it is for [`Done::tell`].
    pub(super) fn run(self, dir: &Path, storage: &dyn Storage) -> Done {
        match self {
            Self::Write(number, entries) => {
                Done::Written(number, Spill::write(storage, dir, number, &entries))
            }
            Self::Remove(numbers) => {
                for number in numbers {
                    if let Err(error) = spill::remove(storage, &spill::path(dir, number)) {
                        tracing::debug!(%error, "a file of ids remains until the next start");
                    }
                }
                Done::Removed
            }
        }
    }
}

/// What came of a [`Chore`].
#[derive(Debug)]
pub(super) enum Done {
    Written(u64, io::Result<Spill>),
    Removed,
}

impl Done {
    /// Tells the groups; `false` when it is not worth going on now.
    pub(super) fn tell(self, ids: &mut Ids) -> bool {
        match self {
            Self::Written(number, written) => {
                let is_written = written.is_ok();
                ids.install(number, written);
                is_written
            }
            Self::Removed => true,
        }
    }
}

impl Sealed {
    fn may_contain(&self, id: &MessageId) -> bool {
        self.range.is_some_and(|(lowest, highest)| (lowest..=highest).contains(id))
            && self.filter.may_contain(id)
    }

    fn find(&self, id: &MessageId) -> io::Result<Option<u32>> {
        match &self.body {
            Body::Memory(entries) => Ok(find(entries, id)),
            Body::Written(spill) => spill.find(id),
        }
    }
}

/// The place of an id among sorted entries; the last one of several.
fn find(entries: &[Entry], id: &MessageId) -> Option<u32> {
    let end = entries.partition_point(|(found, _)| found <= id);
    entries.get(end.checked_sub(1)?).filter(|(found, _)| found == id).map(|(_, place)| *place)
}
