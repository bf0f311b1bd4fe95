//! Identifiers of messages, without a system call for each.

use std::cell::RefCell;

use uuid::{Builder, NoContext, Timestamp, Uuid};

/// Random bytes of one identifier; the time is the rest of it.
const RANDOM_BYTES: usize = 10;

/// Identifiers whose random bytes are fetched at once.
const FETCHED: usize = 25;

/// Bytes of the kernel's generator that were fetched and not used. Each is used once, by one thread.
struct Pool {
    bytes: [u8; FETCHED * RANDOM_BYTES],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> =
        const { RefCell::new(Pool { bytes: [0; FETCHED * RANDOM_BYTES], used: FETCHED }) };
}

impl Pool {
    fn take(&mut self) -> Option<[u8; RANDOM_BYTES]> {
        if self.used >= FETCHED {
            getrandom::fill(&mut self.bytes).ok()?;
            self.used = 0;
        }
        let taken = *self.bytes.as_chunks().0.get(self.used)?;
        self.used += 1;
        Some(taken)
    }
}

/// A new version 7 UUID.
pub(super) fn uuid() -> Uuid {
    let Some(random) = POOL.with_borrow_mut(Pool::take) else {
        // Without a generator there is none; this says so.
        return Uuid::now_v7();
    };
    let (seconds, nanos) = Timestamp::now(NoContext).to_unix();
    let millis = seconds.saturating_mul(1000).saturating_add(u64::from(nanos / 1_000_000));
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn identifiers_are_of_version_7_and_no_two_are_equal_whoever_mints() {
        let before = Uuid::now_v7().get_timestamp().map(|at| at.to_unix());
        let mint = || (0..1000).map(|_| uuid()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(mint)).collect();
        let minted: Vec<Uuid> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(minted.iter().all(|id| id.get_version_num() == 7));
        assert!(
            minted
                .iter()
                .all(|id| id.get_timestamp().map(|at| at.to_unix().0) >= before.map(|it| it.0))
        );
        assert_eq!(minted.iter().collect::<BTreeSet<_>>().len(), 4000);
        // What is random: all but time, version and variant.
        let random: BTreeSet<_> = minted.iter().map(|id| id.as_u128() & ((1 << 62) - 1)).collect();
        assert_eq!(random.len(), 4000);
    }
}
