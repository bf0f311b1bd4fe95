//! Which ids were accepted already (M10), without a place in memory for each.
//!
//! Ids are in groups of consecutive seqs. The newest group is a map in memory. A full one is
//! sealed: sorted, with a filter in memory, and written to a file of its own by the thread that
//! does slow file work; until then, and when that does not work, it stays in memory. The ids of
//! the newest group are written as well when segments wait for that to go. At the next start the
//! files say what the segments do not say any more (`reading`).
//!
//! Invariants:
//! - M33: every id that lives is in exactly one group, of the place it has now; a group goes only
//!   when everything in it is settled and enough was settled after it.
//! - M34: an id that cannot be looked up is never taken for a new one.
//! - M36: a segment goes only when the ids of its records are in synced files, or forgotten: so
//!   they are known after a restart, however large the messages were. Only while there is no space
//!   for the files segments go first, to make some.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alys_stream_protocol::message::{LogId, MessageId, Seq};

mod asked;
mod chore;
mod filter;
mod reading;
mod shelf;
mod spill;

pub(super) use asked::{Asked, IdsUnreadable};
pub(super) use reading::Reading;
pub(crate) use shelf::copy;

use chore::Chore;
use filter::Filter;
use spill::{Span, Spill};

/// An id and its place within its group.
type Entry = (MessageId, u32);

#[derive(Debug)]
pub(super) struct Ids {
    log_id: LogId,
    group_seqs: u64,
    settled_ids_max: u64,
    newest: Newest,
    /// Full groups, by number.
    sealed: BTreeMap<u64, Sealed>,
    /// Of those, the ones with nothing unsettled, and how much was settled until then.
    finished: VecDeque<(u64, u64)>,
    /// How much was settled so far, in the life of the log.
    settled: u64,
    /// How many ids there are.
    count: u64,
    /// Sealed groups that are in memory only.
    unwritten: BTreeSet<u64>,
    /// Groups that were finished, which their files do not say yet.
    unstamped: VecDeque<u64>,
    /// Whether the ids of the newest group are to be written.
    is_newest_wanted: bool,
    writing: Writing,
    /// Files that are to be removed.
    gone: Vec<String>,
    memory_bytes: usize,
}

/// How writing a file went last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Works,
    Fails,
    /// For lack of space.
    IsFull,
}

#[derive(Debug, Default)]
struct Newest {
    number: u64,
    map: HashMap<MessageId, u32>,
    /// The same in the order of seq.
    list: Vec<Entry>,
    unsettled: u64,
    /// The ids of seqs below it are in a file.
    stored_below: u64,
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
    /// How much was settled when nothing of it was unsettled any more.
    finished_at: Option<u64>,
}

#[derive(Debug)]
enum Body {
    Memory(Arc<Vec<Entry>>),
    Written(Arc<Spill>),
}

/// The two halves of an id, in the order of ids.
fn words(id: &MessageId) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *id.as_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)]
}

/// Sorts ids. Of two places of one id, which a replayed message has, the later one counts.
fn sort(entries: &mut Vec<Entry>) {
    entries.sort_unstable();
    entries.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            kept.1 = later.1;
        }
        is_same
    });
}

fn bytes_of(entries: &[Entry]) -> usize {
    size_of_val(entries)
}

impl Ids {
    pub(super) fn new(group_seqs: u64, settled_ids_max: usize) -> Self {
        Self {
            log_id: LogId::new([0; 16]),
            group_seqs,
            settled_ids_max: u64::try_from(settled_ids_max).unwrap_or(u64::MAX),
            newest: Newest::default(),
            sealed: BTreeMap::new(),
            finished: VecDeque::new(),
            settled: 0,
            count: 0,
            unwritten: BTreeSet::new(),
            unstamped: VecDeque::new(),
            is_newest_wanted: false,
            writing: Writing::Works,
            gone: Vec::new(),
            memory_bytes: 0,
        }
    }

    /// How many ids are remembered.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of memory of sealed groups.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Adds an id of an unsettled message; seqs ascend. `true` when that left a [`Chore`] behind.
    pub(super) fn insert(&mut self, id: MessageId, seq: u64) -> bool {
        let number = seq / self.group_seqs;
        let is_sealing = number > self.newest.number && !self.newest.list.is_empty();
        if is_sealing {
            self.seal_newest();
        }
        self.newest.number = self.newest.number.max(number);
        let place = u32::try_from(seq % self.group_seqs).unwrap_or(u32::MAX);
        self.newest.map.insert(id, place);
        self.newest.list.push((id, place));
        self.newest.unsettled += 1;
        self.count += 1;
        is_sealing
    }

    fn seal_newest(&mut self) {
        let capacity = self.newest.list.capacity();
        let mut entries = std::mem::replace(&mut self.newest.list, Vec::with_capacity(capacity));
        let before = entries.len();
        sort(&mut entries);
        self.count -= u64::try_from(before - entries.len()).unwrap_or(0);
        self.newest.map.clear();
        self.newest.stored_below = 0;
        let unsettled = std::mem::take(&mut self.newest.unsettled);
        let number = self.newest.number;
        self.seal(number, Sealed::new(entries, unsettled));
        if unsettled == 0 {
            self.finish(number, self.settled);
        }
        self.forget_old();
    }

    /// Adds a full group. Its ids are counted already.
    fn seal(&mut self, number: u64, group: Sealed) {
        self.memory_bytes += group.memory_bytes();
        if matches!(group.body, Body::Memory(_)) {
            self.unwritten.insert(number);
        }
        self.sealed.insert(number, group);
    }

    /// Nothing of a group is unsettled any more.
    fn finish(&mut self, number: u64, settled: u64) {
        if let Some(group) = self.sealed.get_mut(&number) {
            group.finished_at = Some(settled);
            self.finished.push_back((settled, number));
            self.unstamped.push_back(number);
        }
    }

    /// So many of the messages from `seq` on, all of one group, were settled. `true` when that left
    /// a [`Chore`] behind; while writing does not work it is tried again without being asked for.
    pub(super) fn handle_settled(&mut self, seq: u64, count: u64) -> bool {
        self.settled += count;
        let number = seq / self.group_seqs;
        if number == self.newest.number {
            self.newest.unsettled = self.newest.unsettled.saturating_sub(count);
        } else if let Some(group) = self.sealed.get_mut(&number)
            && group.unsettled > 0
        {
            group.unsettled = group.unsettled.saturating_sub(count);
            if group.unsettled == 0 {
                self.finish(number, self.settled);
            }
        }
        self.forget_old();
        let is_any_left = !self.gone.is_empty() || !self.unstamped.is_empty();
        is_any_left && self.writing == Writing::Works
    }

    /// Forgets groups after which enough was settled (M33).
    fn forget_old(&mut self) {
        while let Some((settled, number)) = self.finished.front().copied()
            && self.settled - settled >= self.settled_ids_max
        {
            if let Some(group) = self.sealed.remove(&number) {
                self.count -= group.count;
                self.memory_bytes -= group.memory_bytes();
                self.unwritten.remove(&number);
                self.gone.push(self.span(number).name());
            }
            self.finished.pop_front();
        }
    }

    /// The ids of seqs below it are in synced files, or forgotten, or segments go first (M36).
    pub(super) fn stored_below(&self) -> u64 {
        if self.writing == Writing::IsFull {
            return u64::MAX;
        }
        let first_unwritten = self.unwritten.first().map(|number| self.span(*number).first);
        first_unwritten
            .unwrap_or_else(|| self.newest.stored_below.max(self.span(self.newest.number).first))
    }

    /// Segments wait for ids to be stored. `true` when that left a [`Chore`] behind; one that did
    /// not work is tried again without being asked for.
    pub(super) fn handle_waited_for(&mut self) -> bool {
        self.is_newest_wanted |= self.unwritten.is_empty();
        self.writing == Writing::Works
    }

    /// The place of an id, if it has one. `None` when a file is to be asked first: that is noted in
    /// `asked`, which is to be read without any lock before this is called again.
    pub(super) fn lookup(&self, id: &MessageId, asked: &mut Asked) -> Option<Option<Seq>> {
        if let Some(place) = self.newest.map.get(id) {
            return Some(Some(self.seq(self.newest.number, *place)));
        }
        // The latest place counts: a replayed message has two.
        for (number, group) in self.sealed.iter().rev().filter(|(_, group)| group.may_contain(id)) {
            let found = match &group.body {
                Body::Memory(entries) => find(entries, id),
                Body::Written(spill) => asked.answer(id, *number, spill)?,
            };
            if let Some(place) = found {
                return Some(Some(self.seq(*number, place)));
            }
        }
        Some(None)
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

    /// The id that has a place; when only a file says, that file and the place within it.
    pub(super) fn id_of(&self, seq: u64) -> Result<Option<MessageId>, (Arc<Spill>, u32)> {
        let (number, place) = (seq / self.group_seqs, seq % self.group_seqs);
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let is_there = |(_, at): &&Entry| *at == place;
        if number == self.newest.number {
            return Ok(self.newest.list.iter().find(is_there).map(|(id, _)| *id));
        }
        match self.sealed.get(&number).map(|group| &group.body) {
            Some(Body::Memory(entries)) => Ok(entries.iter().find(is_there).map(|(id, _)| *id)),
            Some(Body::Written(spill)) => Err((Arc::clone(spill), place)),
            None => Ok(None),
        }
    }

    const fn span(&self, number: u64) -> Span {
        Span { first: number * self.group_seqs, seqs: self.group_seqs }
    }

    const fn seq(&self, number: u64, place: u32) -> Seq {
        Seq(number * self.group_seqs + place as u64)
    }

    /// Takes something to do.
    pub(super) fn take_chore(&mut self) -> Option<Chore> {
        if !self.gone.is_empty() {
            return Some(Chore::Remove(std::mem::take(&mut self.gone)));
        }
        if let Some(number) = self.unwritten.first().copied()
            && let Some(Sealed { body: Body::Memory(entries), .. }) = self.sealed.get(&number)
        {
            return Some(Chore::Write(self.log_id, self.span(number), Arc::clone(entries)));
        }
        if std::mem::take(&mut self.is_newest_wanted) && !self.newest.list.is_empty() {
            let span = self.span(self.newest.number);
            return Some(Chore::WriteNewest(self.log_id, span, self.newest.list.clone()));
        }
        while let Some(number) = self.unstamped.pop_front() {
            if let Some(group) = self.sealed.get(&number)
                && let (Body::Written(spill), Some(settled)) = (&group.body, group.finished_at)
            {
                return Some(Chore::Stamp(Arc::clone(spill), settled));
            }
        }
        None
    }

    /// A full group was written.
    fn install(&mut self, span: Span, spill: Spill) {
        let number = span.first / self.group_seqs;
        let Some(group) = self.sealed.get_mut(&number) else {
            // Forgotten meanwhile.
            self.gone.push(span.name());
            return;
        };
        self.memory_bytes -= group.memory_bytes();
        group.body = Body::Written(Arc::new(spill));
        self.memory_bytes += group.memory_bytes();
        self.unwritten.remove(&number);
        if group.finished_at.is_some() {
            self.unstamped.push_back(number);
        }
    }

    /// The ids of the newest group, as it was then, were written up to a place.
    fn handle_newest_written(&mut self, span: Span, place: u32) {
        if self.span(self.newest.number) == span {
            self.newest.stored_below = span.first + u64::from(place) + 1;
        }
    }
}

impl Sealed {
    /// A group in memory; `entries` are in the order of ids.
    fn new(entries: Vec<Entry>, unsettled: u64) -> Self {
        let mut filter = Filter::new(entries.len());
        entries.iter().for_each(|(id, _)| filter.insert(id));
        let range = entries.first().zip(entries.last()).map(|(first, last)| (first.0, last.0));
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let body = Body::Memory(Arc::new(entries));
        Self { unsettled, count, range, filter, body, finished_at: None }
    }

    fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Memory(entries) => bytes_of(entries),
            Body::Written(spill) => spill.bytes(),
        };
        self.filter.bytes() + body
    }

    fn may_contain(&self, id: &MessageId) -> bool {
        self.range.is_some_and(|(lowest, highest)| (lowest..=highest).contains(id))
            && self.filter.may_contain(id)
    }
}

/// The place of an id among sorted entries.
fn find(entries: &[Entry], id: &MessageId) -> Option<u32> {
    let at = entries.binary_search_by_key(id, |(id, _)| *id).ok()?;
    entries.get(at).map(|(_, place)| *place)
}
