//! Counts what a frame holds before it is decoded: an empty record takes two bytes on the wire and a
//! hundred times that in memory.
//!
//! Not a check of the frame: whether it can be decoded, and what its fields hold, is found later. It
//! looks only at fields that may stand more than once.
//!
//! Invariants:
//! - T58: no frame is decoded that holds more than [`FRAME_RECORDS_MAX`] records, or more than
//!   [`FRAME_ITEMS_MAX`] ranges, cursors and features in all.

use alys_stream_protocol::limits;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::violation::SessionViolation;

/// Most records in one frame that is decoded. More than a batch may have
/// ([`limits::BATCH_RECORDS_MAX`]), so that a peer that breaks that rule a little is told so by the
/// session; less would end its stream without a word, more makes room for nothing good.
pub const FRAME_RECORDS_MAX: usize = 4 * limits::BATCH_RECORDS_MAX;

/// Most ranges, cursors and features in one frame, all together; only a `Hello` with many cursors
/// comes near. Higher lets a peer make us hold more for one frame, 64 bytes for each; lower makes
/// nodes that know many logs be sent again what they have.
pub const FRAME_ITEMS_MAX: usize = 4 * limits::RANGES_MAX;

/// What a field that may stand more than once adds to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adds {
    Record,
    Item,
    /// An item, and those in this field of it.
    ItemOf(u32),
}

/// By the numbers of `stream.proto`: the kind of a frame, and a field of it.
const fn adds(kind: u32, field: u32) -> Option<Adds> {
    match (kind, field) {
        // Hello.receive_cursors, with ReceiveCursor.received.
        (1, 9) => Some(Adds::ItemOf(2)),
        // Hello.features, Welcome.received, Welcome.features, Ack.ranges.
        (1, 6) | (2, 7 | 13) | (5, 2) => Some(Adds::Item),
        // Data.records.
        (4, 3) => Some(Adds::Record),
        _ => None,
    }
}

/// Checks an encoded frame (T58).
///
/// # Errors
///
/// When it holds more of something than a frame may.
pub(crate) fn check_frame(encoded: &[u8]) -> Result<(), SessionViolation> {
    let (mut records, mut items) = (0_usize, 0_usize);
    for (kind, body) in Fields(encoded) {
        for (field, value) in Fields(body) {
            match adds(kind, field) {
                None => continue,
                Some(Adds::Record) => records += 1,
                Some(Adds::Item) => items += 1,
                Some(Adds::ItemOf(inner)) => {
                    items += 1 + Fields(value).filter(|(field, _)| *field == inner).count();
                }
            }
            if records > FRAME_RECORDS_MAX {
                let (count, count_max) = (records, limits::BATCH_RECORDS_MAX);
                return Err(SessionViolation::BatchTooLong { count, count_max });
            }
            if items > FRAME_ITEMS_MAX {
                return Err(SessionViolation::TooManyItems { count_max: FRAME_ITEMS_MAX });
            }
        }
    }
    Ok(())
}

/// The fields of a message that have a length, up to the first thing that is no field: numbers and
/// bytes. Parts of a message that stand apart are joined when it is decoded, so each part counts.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (field, wire) = decode_key(&mut self.0).ok()?;
            if wire == WireType::LengthDelimited {
                let bytes = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (value, rest) = self.0.split_at_checked(bytes)?;
                self.0 = rest;
                return Some((field, value));
            }
            skip_field(wire, field, &mut self.0, DecodeContext::default()).ok()?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::session::{
        Ack, Chunk, Data, Frame, Hello, ReceiveCursor, Record, SeqRange, Welcome, frame,
    };
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn check(kind: frame::Kind) -> Result<(), SessionViolation> {
        check_frame(&Frame::from(kind).encode_to_vec())
    }

    fn records(count: usize) -> frame::Kind {
        let records = vec![Record::default(); count];
        frame::Kind::Data(Data { settled_below: 7, records, ..Data::default() })
    }

    #[test]
    fn records_are_counted_however_they_are_spread() {
        assert_eq!(check(records(FRAME_RECORDS_MAX)), Ok(()));
        let (count, count_max) = (FRAME_RECORDS_MAX + 1, limits::BATCH_RECORDS_MAX);
        let too_long = Err(SessionViolation::BatchTooLong { count, count_max });
        assert_eq!(check(records(count)), too_long);
        // Two parts of one field are one batch.
        let half = Frame::from(records(count / 2 + 1)).encode_to_vec();
        assert_eq!(check_frame(&half), Ok(()));
        assert_eq!(check_frame(&[half.clone(), half].concat()), too_long);
    }

    #[test]
    fn ranges_cursors_and_features_are_counted_together() {
        let ranges = |count| vec![SeqRange::default(); count];
        let cursor = |count| ReceiveCursor { received: ranges(count), ..ReceiveCursor::default() };
        let full = Err(SessionViolation::TooManyItems { count_max: FRAME_ITEMS_MAX });
        let ack = |count| frame::Kind::Ack(Ack { ack_id: 1, ranges: ranges(count) });
        assert_eq!(check(ack(FRAME_ITEMS_MAX)), Ok(()));
        assert_eq!(check(ack(FRAME_ITEMS_MAX + 1)), full);
        let welcome = |count| {
            let received = ranges(count);
            let features = vec![String::new()];
            frame::Kind::Welcome(Welcome { received, features, ..Welcome::default() })
        };
        assert_eq!(check(welcome(FRAME_ITEMS_MAX - 1)), Ok(()));
        assert_eq!(check(welcome(FRAME_ITEMS_MAX)), full);
        let hello = |count| {
            let receive_cursors = vec![cursor(count), cursor(0)];
            let features = vec![String::new(); 2];
            frame::Kind::Hello(Hello { receive_cursors, features, ..Hello::default() })
        };
        assert_eq!(check(hello(FRAME_ITEMS_MAX - 4)), Ok(()));
        assert_eq!(check(hello(FRAME_ITEMS_MAX - 3)), full);
    }

    #[test]
    fn what_stands_once_is_not_counted() {
        let part = vec![3; 500_000].into();
        assert_eq!(check(frame::Kind::Chunk(Chunk { part, ..Chunk::default() })), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_no_frame_is_left_to_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(check_frame(&bytes), Ok(()));
        }
    }
}
