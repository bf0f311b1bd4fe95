//! Ids while the log is read at start-up: groups are made of its records and of the files of ids
//! together.
//!
//! A file says what the segments that are gone said, and may say more than the log ever confirmed:
//! it was written while records were on their way. So the log counts wherever it has a record, and
//! of the others only what is settled: what is neither was lost, or never accepted. The id of an
//! unsettled message always comes from the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alys_stream_protocol::message::{Epoch, LogId, MessageId, Seq};

use super::spill::{self, Found, Span, Spill};
use super::{Body, Entry, Ids, Sealed, shelf, sort};
use crate::buffer::bits::SeqBits;
use crate::buffer::openings;
use crate::storage::Storage;

/// Ids of which a part was read.
pub(in crate::buffer) struct Reading<'a> {
    ids: Ids,
    dir: &'a Path,
    storage: &'a dyn Storage,
    log_ids: Vec<LogId>,
    /// The groups that have a file.
    files: BTreeSet<Span>,
    /// Files that are of no use.
    junk: Vec<String>,
    /// Files that are in use.
    used: BTreeSet<Span>,
    /// Whether what is in use is in files of its own: only then others may go.
    is_stored: bool,
    /// The group whose records are read, their ids in the order of seq, and how many of them are
    /// unsettled.
    number: u64,
    list: Vec<Entry>,
    unsettled: u64,
    /// Groups of which a file knows something that is not known to be settled: what is read later
    /// decides.
    doubtful: BTreeMap<u64, Group>,
    lost: u64,
}

/// A group, all of whose records were read.
struct Group {
    /// What the log says, in the order of seq.
    list: Vec<Entry>,
    unsettled: u64,
    stored: Stored,
}

/// What the files say of a group.
#[derive(Default)]
struct Stored {
    /// In the order of ids.
    entries: Vec<Entry>,
    finished_at: Option<u64>,
    /// The file of just this group.
    spill: Option<Spill>,
}

impl Group {
    /// What only the files say.
    fn unrecorded(&self, span: Span) -> impl Iterator<Item = Entry> + '_ {
        let mut is_recorded = vec![false; usize::try_from(span.seqs).unwrap_or(0)];
        let at = |place: u32| usize::try_from(place).unwrap_or(usize::MAX);
        for (_, place) in &self.list {
            if let Some(is_recorded) = is_recorded.get_mut(at(*place)) {
                *is_recorded = true;
            }
        }
        let entries = self.stored.entries.iter().copied();
        entries.filter(move |(_, place)| is_recorded.get(at(*place)) == Some(&false))
    }

    /// What the log says, and what of the rest is settled; and whether something is left out.
    fn merged(&self, span: Span, settled: &SeqBits) -> (Vec<Entry>, bool) {
        let (mut entries, left_out): (Vec<_>, Vec<_>) =
            self.unrecorded(span).partition(|(_, place)| is_settled(span, *place, settled));
        entries.extend_from_slice(&self.list);
        (entries, !left_out.is_empty())
    }
}

fn sorted(list: &[Entry]) -> Vec<Entry> {
    let mut sorted = list.to_vec();
    sort(&mut sorted);
    sorted
}

fn is_settled(span: Span, place: u32, settled: &SeqBits) -> bool {
    settled.contains(Seq(span.first + u64::from(place)))
}

impl<'a> Reading<'a> {
    /// The latest epoch of a log that is known in its directory.
    pub(in crate::buffer) fn known_epoch(&self, log_id: LogId) -> Epoch {
        openings::latest_epoch(self.storage, self.dir, log_id)
    }

    pub(in crate::buffer) const fn new(ids: Ids, dir: &'a Path, storage: &'a dyn Storage) -> Self {
        Self {
            ids,
            dir,
            storage,
            log_ids: Vec::new(),
            files: BTreeSet::new(),
            junk: Vec::new(),
            used: BTreeSet::new(),
            is_stored: true,
            number: 0,
            list: Vec::new(),
            unsettled: 0,
            doubtful: BTreeMap::new(),
            lost: 0,
        }
    }

    /// Finds the files of ids of a log with these ids, the present one first.
    pub(in crate::buffer) fn begin(&mut self, log_ids: &[LogId]) {
        self.log_ids = log_ids.to_vec();
        self.ids.log_id = log_ids.first().copied().unwrap_or(self.ids.log_id);
        match shelf::list(self.storage, self.dir) {
            Ok((files, junk)) => (self.files, self.junk) = (files, junk),
            Err(error) => {
                tracing::warn!(%error, "files of ids cannot be listed; settled ids are forgotten");
            }
        }
    }

    /// Adds the id of a record; seqs ascend. `settled` is what is known to be.
    pub(in crate::buffer) fn insert(
        &mut self,
        id: MessageId,
        seq: u64,
        is_unsettled: bool,
        settled: &SeqBits,
    ) {
        let number = seq / self.ids.group_seqs;
        if number > self.number {
            self.close_until(number, settled);
        }
        self.list.push((id, u32::try_from(seq % self.ids.group_seqs).unwrap_or(u32::MAX)));
        self.unsettled += u64::from(is_unsettled);
    }

    /// So many of the messages from `seq` on, all of one group, are settled after all.
    pub(in crate::buffer) fn handle_settled(&mut self, seq: u64, count: u64) {
        let number = seq / self.ids.group_seqs;
        let unsettled = if number == self.number {
            Some(&mut self.unsettled)
        } else if let Some(group) = self.doubtful.get_mut(&number) {
            Some(&mut group.unsettled)
        } else {
            self.ids.sealed.get_mut(&number).map(|group| &mut group.unsettled)
        };
        if let Some(unsettled) = unsettled {
            *unsettled = unsettled.saturating_sub(count);
        }
    }

    /// Everything was read; so many messages were settled in the life of the log. Returns the ids,
    /// and about how many ids of settled messages are lost.
    pub(in crate::buffer) fn finish(
        mut self,
        next_seq: u64,
        settled_count: u64,
        settled: &SeqBits,
    ) -> (Ids, u64) {
        self.close_until(next_seq / self.ids.group_seqs, settled);
        for (number, group) in std::mem::take(&mut self.doubtful) {
            self.seal(number, group, settled);
        }
        self.finish_newest(settled);
        self.ids.settled = settled_count;
        self.finish_groups();
        if self.is_stored {
            let unused = self.files.difference(&self.used).map(|span| span.name());
            self.junk.extend(unused);
        }
        self.ids.gone.append(&mut self.junk);
        self.ids.forget_old();
        if self.lost > 0 {
            tracing::warn!(count = self.lost, "ids of settled messages are lost with their files");
        }
        (self.ids, self.lost)
    }

    fn finish_newest(&mut self, settled: &SeqBits) {
        let span = self.ids.span(self.number);
        let group = self.take_group(span);
        let (mut list, is_left_out) = group.merged(span, settled);
        // In the order of seq; the later place of an id counts.
        list.sort_unstable_by_key(|(_, place)| *place);
        let is_stored = !group.stored.entries.is_empty();
        if is_left_out {
            self.leave_out(span, &sorted(&list));
        } else if is_stored && group.stored.spill.is_none() && !list.is_empty() {
            drop(self.write(span, &sorted(&list)));
        }
        if is_stored {
            self.used.insert(span);
        }
        let ids = &mut self.ids;
        ids.newest.number = self.number;
        ids.newest.map = list.iter().copied().collect();
        ids.newest.unsettled = group.unsettled;
        ids.count += u64::try_from(list.len()).unwrap_or(0);
        ids.newest.list = list;
    }

    /// Groups with nothing unsettled count as finished when their files say, or just now.
    fn finish_groups(&mut self) {
        let ids = &mut self.ids;
        let mut finished = Vec::new();
        for (number, group) in &mut ids.sealed {
            if group.unsettled > 0 {
                group.finished_at = None;
                continue;
            }
            let stamp = group.finished_at.filter(|stamp| *stamp <= ids.settled);
            if stamp.is_none() {
                ids.unstamped.push_back(*number);
            }
            let settled = stamp.unwrap_or(ids.settled);
            group.finished_at = Some(settled);
            finished.push((settled, *number));
        }
        finished.sort_unstable();
        ids.finished = finished.into();
    }

    /// Seals the present group and those up to, and without, `number` of which only files are left.
    fn close_until(&mut self, number: u64, settled: &SeqBits) {
        while self.number < number {
            self.close(settled);
            self.number = self.next_with_file(self.number + 1).min(number);
        }
    }

    /// The first group from `number` on of which a file knows something.
    fn next_with_file(&self, number: u64) -> u64 {
        let first = self.ids.span(number).first;
        let files = self.files.iter().filter(|file| file.end() > first);
        files.map(|file| file.first.max(first) / self.ids.group_seqs).min().unwrap_or(u64::MAX)
    }

    /// Seals the present group, unless something of it is in doubt.
    fn close(&mut self, settled: &SeqBits) {
        let span = self.ids.span(self.number);
        let group = self.take_group(span);
        if group.unrecorded(span).all(|(_, place)| is_settled(span, place, settled)) {
            self.seal(self.number, group, settled);
        } else {
            self.doubtful.insert(self.number, group);
        }
    }

    fn take_group(&mut self, span: Span) -> Group {
        let list = std::mem::take(&mut self.list);
        let unsettled = std::mem::take(&mut self.unsettled);
        let stored = self.stored(span, list.len());
        Group { list, unsettled, stored }
    }

    fn seal(&mut self, number: u64, group: Group, settled: &SeqBits) {
        let span = self.ids.span(number);
        let (mut entries, is_left_out) = group.merged(span, settled);
        sort(&mut entries);
        let rewritten = is_left_out.then(|| self.leave_out(span, &entries));
        if entries.is_empty() {
            return;
        }
        let Group { unsettled, stored, .. } = group;
        let same = stored.spill.filter(|_| stored.entries == entries);
        if same.is_none() && stored.finished_at.is_some() {
            self.ids.unstamped.push_back(number);
        }
        let written = rewritten.unwrap_or_else(|| same.or_else(|| self.write(span, &entries)));
        let mut group = Sealed::new(entries, unsettled);
        group.finished_at = stored.finished_at;
        if let Some(spill) = written {
            group.body = Body::Written(spill.into());
        }
        self.used.insert(span);
        self.ids.count += group.count;
        self.ids.seal(number, group);
    }

    /// Writes the file of a group without what is left out of it. That counts as settled from now
    /// on, and then it would be taken for what was delivered: rather no file than the old one.
    fn leave_out(&mut self, span: Span, entries: &[Entry]) -> Option<Spill> {
        let written = self.write(span, entries);
        if written.is_none()
            && let Err(error) = self.storage.remove(&span.path(self.dir))
        {
            tracing::warn!(%error, name = span.name(), "a file of ids cannot be removed");
        }
        written
    }

    /// Writes the file of a group; full ones at once, so that memory is bounded here, too.
    fn write(&mut self, span: Span, entries: &[Entry]) -> Option<Spill> {
        let written = Spill::write(self.storage, self.dir, self.ids.log_id, span, entries);
        written
            .inspect_err(|error| {
                tracing::warn!(%error, "ids stay in memory");
                self.is_stored = false;
            })
            .ok()
    }

    /// What the files say of a group, of which the log has so many records.
    fn stored(&mut self, span: Span, in_log: usize) -> Stored {
        let mut stored = Stored::default();
        let overlapping =
            self.files.iter().filter(|it| it.first < span.end() && span.first < it.end());
        for file in overlapping.copied().collect::<Vec<_>>() {
            let Some(found) = self.read(file) else {
                continue;
            };
            let in_log = if file == span { u64::try_from(in_log).unwrap_or(0) } else { 0 };
            if span.first <= file.first {
                self.lost += found.lost.saturating_sub(in_log);
            }
            if file == span {
                stored.finished_at = found.finished_at;
                stored.spill = found.spill;
                stored.entries.extend(found.entries);
            } else {
                // From when groups had another size.
                stored.entries.extend(found.entries.iter().filter_map(|(id, place)| {
                    let place = (file.first + u64::from(*place)).checked_sub(span.first)?;
                    let place =
                        u32::try_from(place).ok().filter(|it| u64::from(*it) < span.seqs)?;
                    Some((*id, place))
                }));
                stored.entries.sort_unstable();
            }
        }
        stored
    }

    fn read(&mut self, file: Span) -> Option<Found> {
        let opened = self.storage.open(&file.path(self.dir));
        opened
            .and_then(|opened| spill::read(opened, file, &self.log_ids))
            .inspect_err(|error| {
                tracing::warn!(%error, name = file.name(), "a file of ids cannot be read");
                self.is_stored = false;
            })
            .ok()
    }
}
