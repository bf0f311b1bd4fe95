//! Holes in our own log, and the driver that tells the peers of them (D5).
//!
//! What the buffer cannot read back is logged, counted and settled at once; here it waits until
//! every peer with a session knows, which may be after it has connected. Peers of the plain dialect
//! have no words for it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use alys_stream_transport::endpoint::Dialect;
use alys_stream_transport::session::driver::Control;
use tokio::sync::Notify;

use super::Delivery;
use crate::links::Links;

/// How long after a peer could not be told it is tried again: it has to connect first.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Most holes that wait for a peer to connect. More means that a disk is dying: the oldest are in
/// the log of the node alone.
const HOLES_MAX: usize = 1024;

/// What was found since the driver last looked.
#[derive(Debug, Default)]
pub(super) struct Holes {
    found: Mutex<SeqSet>,
    changed: Notify,
}

impl Holes {
    /// These numbers cannot be sent to anybody any more.
    pub(super) fn add(&self, range: RangeInclusive<Seq>) {
        self.found().insert_range(range);
        self.changed.notify_one();
    }

    /// What was added since the last call.
    pub(super) fn take(&self) -> SeqSet {
        std::mem::take(&mut self.found())
    }

    fn found(&self) -> MutexGuard<'_, SeqSet> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is aborted.
pub(crate) async fn run(delivery: Arc<Delivery>, links: Arc<Links>) -> Result<(), String> {
    let mut told = Told::default();
    loop {
        told.add(&delivery.holes.take());
        let statuses = links.statuses();
        // One that has not said what it speaks may still turn out to have sessions.
        let peers = statuses
            .iter()
            .filter(|(_, status)| status.dialect != Some(Dialect::Plain))
            .map(|(endpoint, _)| *endpoint);
        let all = told.tell(peers, |endpoint, gap| links.order(endpoint, gap));
        let changed = delivery.holes.changed.notified();
        if all {
            changed.await;
        } else {
            // Either way it is looked again.
            _ = tokio::time::timeout(TELL_AGAIN, changed).await;
        }
    }
}

/// Which holes there are, and who was told of how many of them.
#[derive(Debug, Default)]
struct Told {
    holes: Vec<RangeInclusive<Seq>>,
    counts: BTreeMap<EndpointId, usize>,
}

impl Told {
    fn add(&mut self, found: &SeqSet) {
        self.holes.extend(found.ranges());
        let over = self.holes.len().saturating_sub(HOLES_MAX);
        if over > 0 {
            tracing::error!(over, "too many holes to tell the peers of all: see the lines before");
            self.forget(over);
        }
    }

    /// Tells each peer what it does not know. `order` says whether a peer could be told. Returns
    /// whether all know all.
    fn tell(
        &mut self,
        peers: impl Iterator<Item = EndpointId>,
        mut order: impl FnMut(EndpointId, Control) -> bool,
    ) -> bool {
        let mut least = self.holes.len();
        for peer in peers {
            let count = self.counts.entry(peer).or_default();
            for hole in self.holes.iter().skip(*count) {
                if !order(peer, gap(hole)) {
                    break;
                }
                *count += 1;
            }
            least = least.min(*count);
        }
        let all = least == self.holes.len();
        self.forget(least);
        all
    }

    fn forget(&mut self, oldest: usize) {
        self.holes.drain(..oldest);
        for count in self.counts.values_mut() {
            *count = count.saturating_sub(oldest);
        }
    }
}

fn gap(hole: &RangeInclusive<Seq>) -> Control {
    Control::Gap {
        range: hole.clone(),
        cause: GapCause::Corruption,
        text: "the messages cannot be read back from the disk of the node".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EndpointId = EndpointId(1);
    const TWO: EndpointId = EndpointId(2);

    fn set(seqs: &[u64]) -> SeqSet {
        seqs.iter().copied().map(Seq).collect()
    }

    /// Who of the two was told what, when only `up` can be.
    fn tell(told: &mut Told, up: &[EndpointId]) -> (Vec<(u16, u64, u64)>, bool) {
        let mut heard = Vec::new();
        let all = told.tell([ONE, TWO].into_iter(), |peer, control| {
            let Control::Gap { range, .. } = control else { panic!("not a gap") };
            let is_up = up.contains(&peer);
            if is_up {
                heard.push((peer.0, range.start().0, range.end().0));
            }
            is_up
        });
        (heard, all)
    }

    #[test]
    fn every_peer_hears_of_every_hole_once_and_late_ones_later() {
        let mut told = Told::default();
        assert_eq!(tell(&mut told, &[ONE, TWO]), (vec![], true));
        told.add(&set(&[3, 4, 5, 9]));
        assert_eq!(tell(&mut told, &[ONE]), (vec![(1, 3, 5), (1, 9, 9)], false));
        assert_eq!(tell(&mut told, &[ONE]), (vec![], false));
        told.add(&set(&[20]));
        let rest = vec![(1, 20, 20), (2, 3, 5), (2, 9, 9), (2, 20, 20)];
        assert_eq!(tell(&mut told, &[ONE, TWO]), (rest, true));
        assert!(told.holes.is_empty(), "what all know is forgotten");
        told.add(&set(&[21]));
        assert_eq!(tell(&mut told, &[ONE, TWO]), (vec![(1, 21, 21), (2, 21, 21)], true));
    }

    #[test]
    fn holes_that_nobody_hears_of_are_bounded() {
        let mut told = Told::default();
        for seq in 0..2 * HOLES_MAX {
            told.add(&set(&[2 * u64::try_from(seq).unwrap()]));
        }
        assert_eq!(told.holes.len(), HOLES_MAX);
        assert_eq!(tell(&mut told, &[ONE, TWO]).0.len(), 2 * HOLES_MAX);
    }
}
