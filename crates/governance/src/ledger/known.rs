//! The message ids that the ledger remembers: the latest ones, up to a number. Pure.
//!
//! What is known of an id lies in order of arrival, and small tables say where: most ids are new, and
//! to see that costs one look into a table. Which table is a matter of when the id was minted, as a
//! version 7 UUID has it: what comes in one after the other is looked for in the same one, and that
//! one is in the caches of the processor, however many ids are remembered.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use alys_stream_protocol::message::{LogId, MessageId, Seq};
use alys_stream_protocol::time::UnixMillis;
use hashbrown::HashTable;

use super::{Application, Standing};

#[derive(Debug)]
struct Known {
    id: MessageId,
    owner: (LogId, Seq),
    digest: [u8; 16],
    received: UnixMillis,
    hold: Hold,
}

/// What the record that an id belongs to has done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It is to be applied.
    Claimed,
    Applied,
    /// It will not be applied: the id is nobody's.
    Released,
}

impl Known {
    const fn new(application: &Application, hold: Hold) -> Self {
        let Application { id, sender, seq, received, digest, .. } = *application;
        Self { id, owner: (sender, seq), digest, received, hold }
    }

    fn is_of(&self, application: &Application) -> bool {
        self.owner == (application.sender, application.seq)
    }
}

/// Where an id lies: its number, wrapped, and a part of its hash, so that neither a larger table
/// nor an id that is not there needs a look at what is known.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u32,
    hash: u32,
}

impl Place {
    /// Spread over all bits: the table takes some of both ends.
    fn spread(self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Debug)]
pub(super) struct KnownIds {
    ids_max: usize,
    /// In order of arrival, so that the oldest is forgotten first.
    known: VecDeque<Known>,
    /// The number of the first one, wrapped.
    first: u32,
    places: Vec<HashTable<Place>>,
    /// Ids are chosen by others: which of them fall together is not.
    hasher: RandomState,
}

impl KnownIds {
    pub(super) fn new(ids_max: usize) -> Self {
        Self {
            ids_max,
            known: VecDeque::new(),
            first: 0,
            places: (0..TABLES).map(|_| HashTable::new()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Says whose an id is, and gives it to this record when it is nobody's (G4).
    pub(super) fn claim(&mut self, application: &Application) -> Standing {
        let hash = self.hash(&application.id);
        let Some(known) = self.find(hash, &application.id) else {
            self.add(hash, application, Hold::Claimed);
            return Standing::New;
        };
        if known.hold == Hold::Released {
            *known = Known::new(application, Hold::Claimed);
            return Standing::New;
        }
        let received = known.received;
        if known.is_of(application) {
            Standing::Own { is_applied: known.hold == Hold::Applied, received }
        } else if known.digest == application.digest {
            Standing::Duplicate { received }
        } else {
            Standing::Conflict
        }
    }

    /// Takes an id back from a record that will not be applied (G4).
    pub(super) fn release(&mut self, application: &Application) {
        let hash = self.hash(&application.id);
        if let Some(known) = self.find(hash, &application.id)
            && known.is_of(application)
            && known.hold == Hold::Claimed
        {
            known.hold = Hold::Released;
        }
    }

    /// Whether a record may be applied, once: its id is its own or nobody's.
    pub(super) fn apply(&mut self, application: &Application) -> bool {
        let hash = self.hash(&application.id);
        let Some(known) = self.find(hash, &application.id) else {
            self.add(hash, application, Hold::Applied);
            return true;
        };
        let may = match known.hold {
            Hold::Claimed => known.is_of(application),
            Hold::Applied => false,
            Hold::Released => true,
        };
        if may {
            *known = Known::new(application, Hold::Applied);
        }
        may
    }

    /// Remembers an application of before; whether the id was known, and by this very application.
    pub(super) fn recover(&mut self, application: &Application) -> Recovered {
        let hash = self.hash(&application.id);
        let Some(known) = self.find(hash, &application.id) else {
            self.add(hash, application, Hold::Applied);
            return Recovered::New;
        };
        let is_same = known.is_of(application)
            && known.received == application.received
            && known.digest == application.digest;
        if is_same { Recovered::Again } else { Recovered::Twice }
    }

    fn hash(&self, id: &MessageId) -> Hash {
        let [a, b, c, d, e, f, ..] = *id.as_bytes();
        let minted_at = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let table = self.hasher.hash_one(minted_at / MILLIS_TOGETHER) % TABLES;
        Hash {
            table: usize::try_from(table).unwrap_or(0),
            of_id: u32::try_from(self.hasher.hash_one(id) >> 32).unwrap_or(u32::MAX),
        }
    }

    fn find(&mut self, hash: Hash, id: &MessageId) -> Option<&mut Known> {
        let wanted = Place { number: 0, hash: hash.of_id }.spread();
        let (known, first) = (&self.known, self.first);
        let place = self.places.get(hash.table)?.find(wanted, |place| {
            place.hash == hash.of_id
                && known.get(index(first, place.number)).is_some_and(|known| known.id == *id)
        })?;
        let at = index(first, place.number);
        self.known.get_mut(at)
    }

    fn add(&mut self, hash: Hash, application: &Application, hold: Hold) {
        while self.known.len() >= self.ids_max.clamp(1, NUMBERS_MAX) {
            self.forget_oldest();
        }
        let count = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let place = Place { number: self.first.wrapping_add(count), hash: hash.of_id };
        self.known.push_back(Known::new(application, hold));
        if let Some(places) = self.places.get_mut(hash.table) {
            places.insert_unique(place.spread(), place, |place| place.spread());
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.known.pop_front() else {
            return;
        };
        let (hash, number) = (self.hash(&oldest.id), self.first);
        self.first = self.first.wrapping_add(1);
        let spread = Place { number, hash: hash.of_id }.spread();
        if let Some(places) = self.places.get_mut(hash.table)
            && let Ok(place) = places.find_entry(spread, |place| place.number == number)
        {
            place.remove();
        }
        if self.known.is_empty() {
            debug_assert!(self.places.iter().all(HashTable::is_empty), "every place is of an id");
        }
    }
}

/// Where an id is looked for.
#[derive(Debug, Clone, Copy)]
struct Hash {
    table: usize,
    of_id: u32,
}

/// How many tables there are.
const TABLES: u64 = 1024;

/// Ids minted within so many milliseconds are in one table.
const MILLIS_TOGETHER: u64 = 64;

/// So many ids are told apart by wrapped numbers, whatever is configured.
const NUMBERS_MAX: usize = 1 << 31;

fn index(first: u32, number: u32) -> usize {
    usize::try_from(number.wrapping_sub(first)).unwrap_or(usize::MAX)
}

/// What a line of a file that is read again says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovered {
    New,
    /// The same application as before.
    Again,
    /// Another application of the same message.
    Twice,
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::MessageKind;

    use super::*;

    fn application(id: u64, seq: u64) -> Application {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        Application {
            id: MessageId::new(bytes),
            kind: MessageKind::PEGIN_NOTIFICATION,
            sender: LogId::new([9; 16]),
            seq: Seq(seq),
            received: UnixMillis(5),
            digest: [1; 16],
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_numbers_may_wrap() {
        let mut known = KnownIds { first: u32::MAX - 5, ..KnownIds::new(10) };
        for id in 0..1000 {
            assert_eq!(known.claim(&application(id, id)), Standing::New);
            assert!(known.apply(&application(id, id)));
            for kept in id.saturating_sub(9)..=id {
                let own = Standing::Own { is_applied: true, received: UnixMillis(5) };
                assert_eq!(known.claim(&application(kept, kept)), own);
                assert!(!known.apply(&application(kept, kept)));
            }
            let places: usize = known.places.iter().map(HashTable::len).sum();
            assert_eq!(
                (known.known.len(), places),
                (10.min(usize::try_from(id).unwrap() + 1), known.known.len())
            );
        }
        assert_eq!(known.claim(&application(5, 5)), Standing::New, "forgotten long ago");
    }

    #[test]
    fn an_id_that_was_taken_back_is_nobodys() {
        let mut known = KnownIds::new(10);
        let (one, other) = (application(1, 1), application(1, 2));
        assert_eq!(known.claim(&one), Standing::New);
        known.release(&other);
        assert!(!known.apply(&other), "whoever does not own it takes nothing back");
        known.release(&one);
        assert_eq!(known.claim(&other), Standing::New);
        assert!(!known.apply(&one));
        assert!(known.apply(&other));
        known.release(&other);
        assert!(!known.apply(&one), "what is applied is not taken back");
    }

    #[test]
    fn ids_with_one_hash_are_told_apart() {
        let mut known = KnownIds::new(10);
        let (one, other) = (application(1, 1), application(2, 2));
        let same = Hash { table: 3, of_id: 7 };
        known.add(same, &one, Hold::Applied);
        known.add(same, &other, Hold::Claimed);
        assert!(known.find(same, &one.id).is_some_and(|it| it.owner.1 == Seq(1)));
        assert!(known.find(same, &other.id).is_some_and(|it| it.owner.1 == Seq(2)));
        assert!(known.find(same, &application(3, 3).id).is_none());
    }
}
