//! The summary that starts a segment: what is settled, in parts of bounded size. Pure.

use std::ops::RangeInclusive;

use alys_stream_protocol::message::Seq;

/// Most ranges in one part: half a mebibyte.
pub(super) const RANGES_MAX: u32 = 32_768;

/// What every part begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) next_seq: u64,
    pub(super) settled_below: u64,
}

impl Summary {
    /// Writes one part: the settled seqs from `from` up to and without `end`, which are those that
    /// `live` leaves out. Returns where the next part begins, if there is one.
    pub(super) fn encode(
        &self,
        from: u64,
        end: u64,
        live: impl Iterator<Item = RangeInclusive<Seq>>,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        out.extend_from_slice(&self.next_seq.to_le_bytes());
        out.extend_from_slice(&self.settled_below.to_le_bytes());
        let count_at = out.len();
        out.extend_from_slice(&0_u32.to_le_bytes());
        let (mut count, mut at, mut next) = (0, from, None);
        let closing = std::iter::once(Seq(end)..=Seq(end));
        for run in live.chain(closing) {
            let (first, last) = (run.start().0.min(end), run.end().0);
            if at < first {
                if count == RANGES_MAX {
                    next = Some(at);
                    break;
                }
                out.extend_from_slice(&at.to_le_bytes());
                out.extend_from_slice(&(first - 1).to_le_bytes());
                count += 1;
            }
            at = at.max(last.saturating_add(1));
        }
        if let Some(field) = out.get_mut(count_at..count_at + 4) {
            field.copy_from_slice(&count.to_le_bytes());
        }
        next
    }

    /// All parts, for one who holds everything still.
    pub(super) fn parts<I: Iterator<Item = RangeInclusive<Seq>>>(
        &self,
        end: u64,
        live: impl Fn(u64) -> I,
    ) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let mut next = Some(self.settled_below);
        while let Some(from) = next {
            let mut part = Vec::new();
            next = self.encode(from, end, live(from), &mut part);
            parts.push(part);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::seq_set::SeqSet;

    use super::*;
    use crate::record::ByteReader;

    #[test]
    fn the_parts_together_say_everything_that_is_settled() {
        // Every third is unsettled: as ragged as it gets.
        let live = |seq: u64| seq.is_multiple_of(3);
        let end = 3 * u64::from(RANGES_MAX) * 2 + 100;
        let runs = |from: u64| (from..end).filter(|seq| live(*seq)).map(|seq| Seq(seq)..=Seq(seq));
        let summary = Summary { next_seq: end, settled_below: 3 };
        let parts = summary.parts(end, runs);
        assert_eq!(parts.len(), 3);
        let mut settled = SeqSet::new();
        for part in &parts {
            let mut reader = ByteReader::new(part);
            assert_eq!((reader.u64(), reader.u64()), (Some(end), Some(3)));
            for range in reader.seq_set().unwrap().ranges() {
                settled.insert_range(range);
            }
            assert_eq!(reader.offset(), part.len());
        }
        assert!((3..end).all(|seq| settled.contains(Seq(seq)) != live(seq)));
        assert!(!settled.contains(Seq(end)));
    }

    /// The bytes of two parts, from the table of the buffer: next seq, settled below, how many
    /// ranges, and each of them.
    #[test]
    fn parts_are_written_as_described() {
        let end = 4 + 3 * u64::from(RANGES_MAX) + 6;
        let runs =
            |from: u64| (from..end).filter(|seq| seq % 3 == 0).map(|seq| Seq(seq)..=Seq(seq));
        let parts = Summary { next_seq: end, settled_below: 4 }.parts(end, runs);
        let described = |ranges: &[(u64, u64)]| {
            let mut part = [end.to_le_bytes(), 4_u64.to_le_bytes()].concat();
            part.extend_from_slice(&u32::try_from(ranges.len()).unwrap().to_le_bytes());
            for (first, last) in ranges {
                part.extend_from_slice(&first.to_le_bytes());
                part.extend_from_slice(&last.to_le_bytes());
            }
            part
        };
        let all: Vec<_> =
            (4..end).step_by(3).map(|first| (first, (first + 1).min(end - 1))).collect();
        let (first, second) = all.split_at(RANGES_MAX as usize);
        assert_eq!(parts, [described(first), described(second)]);
        assert!(!second.is_empty());
    }
}
