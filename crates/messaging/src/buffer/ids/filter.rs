//! A filter of message ids: says for certain that one is not there, and seldom that one may be
//! which is not. Pure.
//!
//! A split block Bloom filter (as in Apache Parquet): one cache line is read, with one bit in each
//! of eight words. At 12 bits per id about one of 200 that are not there may be.

use alys_stream_protocol::message::MessageId;

/// Bits per id.
const BITS_PER_ID: usize = 12;

const WORDS: usize = 8;
const BLOCK_BITS: usize = WORDS * 32;

/// Odd numbers that spread the bits over the words, from the Parquet specification.
const SALTS: [u32; WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

#[derive(Debug)]
pub(super) struct Filter {
    blocks: Box<[[u32; WORDS]]>,
}

impl Filter {
    pub(super) fn new(ids: usize) -> Self {
        let blocks = (ids * BITS_PER_ID).div_ceil(BLOCK_BITS).max(1);
        Self { blocks: vec![[0; WORDS]; blocks].into_boxed_slice() }
    }

    /// Bytes of memory.
    pub(super) const fn bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }

    pub(super) fn insert(&mut self, id: &MessageId) {
        let (block, masks) = self.place(id);
        if let Some(block) = self.blocks.get_mut(block) {
            for (word, mask) in block.iter_mut().zip(masks) {
                *word |= mask;
            }
        }
    }

    pub(super) fn may_contain(&self, id: &MessageId) -> bool {
        let (block, masks) = self.place(id);
        let Some(block) = self.blocks.get(block) else {
            return false;
        };
        block.iter().zip(masks).all(|(word, mask)| word & mask != 0)
    }

    /// The block of an id and its bit in each word.
    fn place(&self, id: &MessageId) -> (usize, [u32; WORDS]) {
        let hash = mix(id);
        let (high, low) = halves(hash);
        let count = u64::try_from(self.blocks.len()).unwrap_or(1);
        let block = usize::try_from((u64::from(high) * count) >> 32).unwrap_or(0);
        (block, SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27)))
    }
}

fn halves(hash: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d]))
}

/// Mixes the bits of an id, after `MurmurHash3`'s finaliser. Ids that were chosen to collide make
/// lookups slower, never wrong.
fn mix(id: &MessageId) -> u64 {
    let [high, low] = super::words(id);
    let mut hash = high ^ low.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53_u64] {
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64, is_random: bool) -> MessageId {
        let mut bytes = [7; 16];
        let n = if is_random { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { n };
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        MessageId::new(bytes)
    }

    #[test]
    fn what_is_there_may_be_and_hardly_anything_else() {
        for is_random in [false, true] {
            let mut filter = Filter::new(10_000);
            (0..10_000).for_each(|n| filter.insert(&id(n, is_random)));
            assert!((0..10_000).all(|n| filter.may_contain(&id(n, is_random))));
            let wrong = (10_000..110_000).filter(|n| filter.may_contain(&id(*n, is_random)));
            let wrong = wrong.count();
            assert!(wrong < 1000, "{wrong} of 100 000");
            assert!(filter.bytes() <= 10_000 * 3 / 2 + 64);
        }
    }
}
