//! What the streams of an endpoint show, passed on to the machines that judge by it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use alys_stream_protocol::governance::ErrorCode;

use super::Core;
use crate::connection::Event;
use crate::exchange::{Nack, NackKind};
use crate::health::Quality;
use crate::reconnect::Failure;
use crate::session::driver::{Observed, SessionObserver};

impl Core {
    /// What a stream shows, of either dialect.
    pub(in crate::grpc) fn see(&self, at: Instant, observed: &Observed<'_>) {
        match observed {
            Observed::Sent { in_flight, .. } => {
                self.in_flight.store(*in_flight, Ordering::Relaxed);
                if !self.is_plain.load(Ordering::Relaxed) {
                    crate::lock(&self.vitals).handle_sent(at, *in_flight);
                }
            }
            Observed::Acked { ranges, in_flight } => self.acked(at, ranges.count(), *in_flight),
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
            Observed::Draining { .. } => self.feed(Event::StreamClosed),
            Observed::Received(_) | Observed::AuthRefreshed(_) => {}
        }
        self.observer.observed(&self.name, at, observed);
    }

    fn acked(&self, at: Instant, messages: u64, in_flight: u64) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        let counted = if self.is_plain.load(Ordering::Relaxed) { 0 } else { in_flight };
        crate::lock(&self.vitals).handle_acked(at, messages, counted);
        self.gate.succeeded(messages);
        if !self.acknowledged.swap(true, Ordering::Relaxed) {
            self.feed(Event::Acknowledged);
        }
    }

    /// A terminal refusal is about the message: the peer does its work. One that says "later" is
    /// about the peer.
    fn nacked(&self, at: Instant, nack: &Nack) {
        match nack.kind {
            // It took the message, and is at it.
            NackKind::InProgress => return self.gate.succeeded(1),
            NackKind::Retry { .. } => {
                let code = i32::try_from(nack.code).ok().and_then(|code| code.try_into().ok());
                let is_exhausted = code == Some(ErrorCode::RateLimited);
                self.gate.failed(if is_exhausted { Failure::Exhausted } else { Failure::Broken });
                crate::lock(&self.vitals).handle_refused(at);
            }
            NackKind::Terminal => self.gate.succeeded(1),
        }
        let one_less = |n: u64| n.checked_sub(1);
        _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }
}

impl SessionObserver for Core {
    fn observe(&self, now: Instant, observed: Observed<'_>) {
        self.see(now, &observed);
    }
}
