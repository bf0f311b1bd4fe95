//! What the streams of an endpoint show, passed on to the machines that judge by it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use alys_stream_protocol::governance::ErrorCode;
use alys_stream_protocol::seq_set::SeqSet;

use super::Core;
use crate::connection::Event;
use crate::exchange::{Nack, NackKind, NackOrigin};
use crate::health::Quality;
use crate::reconnect::Failure;
use crate::session::driver::{Observed, SessionObserver};

impl Core {
    /// What a stream shows, of either dialect.
    pub(in crate::grpc) fn see(&self, at: Instant, observed: &Observed<'_>) {
        match observed {
            Observed::Sent { in_flight, awaited, .. } => {
                self.set_in_flight(*in_flight);
                crate::lock(&self.vitals).handle_sent(at, *awaited);
            }
            Observed::Acked { ranges, in_flight, awaited } => {
                self.set_in_flight(*in_flight);
                self.acked(at, ranges, *awaited);
            }
            Observed::Progress { in_flight, awaited } => {
                self.set_in_flight(*in_flight);
                crate::lock(&self.vitals).handle_progress(at, *awaited);
            }
            Observed::Nacked(nack) => self.nacked(at, nack),
            Observed::Alive(rtt) => {
                self.set_facts(|facts| facts.rtt = Some(*rtt));
                crate::lock(&self.vitals).handle_rtt(rtt.last);
                if self.is_plain.load(Ordering::Relaxed) {
                    // Its reader has consumed what was sent before: that is all it ever promises.
                    self.gate.succeeded(1);
                }
                self.feed(Event::Alive);
                self.assess();
            }
            Observed::Quality(quality) => {
                crate::lock(&self.vitals).handle_missed(match quality {
                    Quality::Good => 0,
                    Quality::Minor => 1,
                    Quality::Severe => 2,
                });
                self.assess();
            }
            Observed::Suspended(reason) => {
                let reason = (*reason).to_owned();
                self.feed(Event::Suspended { reason, resume_after: None });
            }
            Observed::Resumed(_) => self.feed(Event::Resumed),
            Observed::Credit(credit) => self.set_credit(*credit),
            Observed::Draining { by_peer: true, .. } => self.feed(Event::StreamClosed),
            // What this side closes it opens anew, here or elsewhere: whoever does feeds that.
            Observed::Draining { by_peer: false, .. }
            | Observed::Received(_)
            | Observed::AuthRefreshed(_) => {}
        }
        self.observer.observed(&self.name, at, observed);
    }

    fn acked(&self, at: Instant, ranges: &SeqSet, awaited: u64) {
        crate::lock(&self.vitals).handle_acked(at, ranges.count(), awaited);
        self.gate.acked(ranges);
        if !self.acknowledged.swap(true, Ordering::Relaxed) {
            self.feed(Event::Acknowledged);
        }
    }

    /// A terminal refusal is about the message: the peer does its work. One that says "later" is
    /// about the peer. What this side says itself is about neither, and counts for nothing.
    fn nacked(&self, at: Instant, nack: &Nack) {
        match nack.origin {
            NackOrigin::Local => return self.gate.given_up(nack.seq),
            NackOrigin::Peer => {}
        }
        match nack.kind {
            NackKind::Retry { .. } => {
                let code = i32::try_from(nack.code).ok().and_then(|code| code.try_into().ok());
                let is_exhausted = code == Some(ErrorCode::RateLimited);
                let failure = if is_exhausted { Failure::Exhausted } else { Failure::Broken };
                self.gate.refused(nack.seq, failure);
                crate::lock(&self.vitals).handle_refused(at);
            }
            // It took the message, and is at it; or it said all there is to say.
            NackKind::InProgress | NackKind::Terminal => self.gate.dealt_with(nack.seq),
        }
    }
}

impl SessionObserver for Core {
    fn observe(&self, now: Instant, observed: Observed<'_>) {
        self.see(now, &observed);
    }
}
