//! Changes an input the way a fuzzer does, from a seed.

use fastrand::Rng;

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 8] =
    [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 32) - 1, 1 << 24, 0x7FFF_FFFF];

/// One member of the corpus with a few changes.
///
/// The same corpus and seed give the same input.
///
/// # Panics
///
/// When the corpus is empty.
#[must_use]
pub fn mutated(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    assert!(!corpus.is_empty(), "a mutation begins from something");
    let mut rng = Rng::with_seed(seed);
    let mut data = pick(&mut rng, corpus).to_vec();
    // Mostly one: what is changed a lot is refused at the first look.
    loop {
        change(&mut rng, &mut data, corpus);
        if rng.bool() {
            return data;
        }
    }
}

fn pick<'a>(rng: &mut Rng, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    let index = rng.usize(..corpus.len());
    corpus.get(index).map_or(&[], Vec::as_slice)
}

fn change(rng: &mut Rng, data: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if data.is_empty() {
        data.push(0);
    }
    let at = rng.usize(..data.len());
    match rng.u8(..10) {
        0 => flip(data, at, 1_u8.rotate_left(rng.u32(..8))),
        1 => flip(data, at, rng.u8(..)),
        2 | 3 => put(data, at, &EDGES[rng.usize(..EDGES.len())].to_le_bytes()),
        4 => put(data, at, &rng.u32(..300).to_le_bytes()),
        5 => data.truncate(at.max(1)),
        6 => {
            let end = (at + rng.usize(..64)).min(data.len());
            data.drain(at..end);
        }
        // Text stays text.
        7 => put(data, at, &[b'0' + rng.u8(..10)]),
        8 => {
            let piece = data[at..(at + rng.usize(..64)).min(data.len())].to_vec();
            let to = rng.usize(..=data.len());
            data.splice(to..to, piece);
        }
        _ => {
            let other = pick(rng, corpus);
            let from = rng.usize(..=other.len());
            let piece = other.get(from..).unwrap_or_default();
            let length = rng.usize(..=piece.len());
            put(data, at, piece.get(..length).unwrap_or_default());
        }
    }
}

fn flip(data: &mut [u8], at: usize, mask: u8) {
    if let Some(byte) = data.get_mut(at) {
        *byte ^= mask;
    }
}

/// Overwrites as far as there is room.
fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    for (target, byte) in data.iter_mut().skip(at).zip(bytes) {
        *target = *byte;
    }
}
