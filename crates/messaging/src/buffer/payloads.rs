//! The cache of payloads: the oldest messages, since they are the next to be sent, up to a number
//! of bytes. Pure.

use std::collections::BTreeMap;

use alys_stream_protocol::message::Message;

use super::page::{index_of, indices, number_of};

/// Messages of one page, in order. Those that went leave their place behind.
#[derive(Debug)]
struct PayloadPage {
    messages: Vec<(u32, Option<Message>)>,
    /// How many are there.
    count: u32,
    /// Of the messages and of the room for more.
    bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Payloads {
    pages: BTreeMap<u64, PayloadPage>,
    bytes: u64,
    /// The room of a page that went, for the next one.
    spare: Vec<(u32, Option<Message>)>,
}

/// How many messages a page has room for: allocated at once, so that most appends allocate nothing.
const PAGE_LENGTH: usize = 128;

/// Bytes of a page: room for its messages and a place in the map.
const PAGE_BYTES: usize = PAGE_LENGTH * size_of::<(u32, Option<Message>)>() + 128;

/// Bytes that each allocation takes besides what it holds, at most.
const ALLOCATION_BYTES: usize = 32;

impl Payloads {
    /// Bytes of memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a message if there is room; otherwise it goes, and is read back when it is needed.
    /// Messages come in order of seq.
    pub(super) fn insert(&mut self, seq: u64, message: Message, bytes_max: u64) {
        self.trim(bytes_max);
        let number = number_of(seq);
        let bytes = heap_bytes(&message);
        let is_new = !self.pages.contains_key(&number);
        let needed = bytes + if is_new { to_u64(PAGE_BYTES) } else { 0 };
        if self.bytes + needed > bytes_max {
            return;
        }
        if is_new {
            let mut messages = std::mem::take(&mut self.spare);
            messages.reserve(PAGE_LENGTH);
            self.bytes += to_u64(PAGE_BYTES);
            self.pages
                .insert(number, PayloadPage { messages, count: 0, bytes: to_u64(PAGE_BYTES) });
        }
        if let Some(page) = self.pages.get_mut(&number) {
            page.messages.push((index_of(seq), Some(message)));
            page.count += 1;
            page.bytes += bytes;
            self.bytes += bytes;
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Message> {
        let page = self.pages.get(&number_of(seq))?;
        let at = page.messages.binary_search_by_key(&index_of(seq), |(index, _)| *index).ok()?;
        page.messages.get(at)?.1.as_ref()
    }

    /// Drops what of a page is in `bits`.
    pub(super) fn remove(&mut self, number: u64, bits: u128) {
        let Some(page) = self.pages.get_mut(&number) else {
            return;
        };
        let mut gone = 0;
        for index in indices(bits) {
            let found = page.messages.binary_search_by_key(&index, |(index, _)| *index);
            let place = found.ok().and_then(|at| page.messages.get_mut(at));
            if let Some(message) = place.and_then(|(_, message)| message.take()) {
                gone += heap_bytes(&message);
                page.count -= 1;
            }
        }
        page.bytes -= gone;
        self.bytes -= gone;
        if page.count == 0 {
            self.forget(number);
        }
    }

    /// Drops the newest pages until at most so many bytes are left.
    fn trim(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max
            && let Some((number, _)) = self.pages.last_key_value()
        {
            self.forget(*number);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(mut page) = self.pages.remove(&number) {
            self.bytes -= page.bytes;
            page.messages.clear();
            self.spare = page.messages;
        }
    }
}

/// Bytes that a message takes besides its place in a page.
fn heap_bytes(message: &Message) -> u64 {
    let key =
        message.ordering_key.as_ref().map_or(0, |key| key.as_bytes().len() + ALLOCATION_BYTES);
    let trace = message.traceparent.as_ref().map_or(0, |trace| trace.len() + ALLOCATION_BYTES);
    to_u64(message.payload.len() + ALLOCATION_BYTES + key + trace)
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
