//! A registered plain stream: one loop over answers, room, new messages and timers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_protocol::seq_set::SeqSet;
use bytes::Bytes;
use prost::Message as _;

use super::requests::{NotTaken, Requests};
use super::{Registered, decode};
use crate::connection;
use crate::exchange::Exchange;
use crate::grpc::EndpointParts;
use crate::grpc::core::{Core, now};
use crate::grpc::error::{GOAWAY, LinkCause, LinkError, Step, going_away};
use crate::grpc::probe::Probe;
use crate::plain::{Event, Plain};
use crate::session::driver::Observed;

/// Calls [`Exchange::lost`] when the stream is over, also when its task is cancelled.
struct Lost<'a, X: Exchange>(&'a X);

impl<X: Exchange> Drop for Lost<'_, X> {
    fn drop(&mut self) {
        self.0.lost();
    }
}

pub(super) struct Stream<'a, X: Exchange> {
    parts: &'a EndpointParts<X>,
    core: &'a Arc<Core>,
    probe: &'a Probe,
    machine: Plain,
    #[expect(dead_code, reason = "acts when it is dropped")]
    lost: Lost<'a, X>,
    /// Acknowledgements reported to the owner; nobody echoes them on this wire.
    acks: u64,
    /// Whether the owner may have something to send.
    ready: bool,
    /// Nothing new is sent any more: closed then, or when everything is answered.
    close_at: Option<Instant>,
    /// Whether the peer wants us elsewhere.
    is_sent_away: bool,
}

/// How long the peer may take to end its direction, once everything is answered and ours is ended.
/// Longer bears a slower peer, shorter is elsewhere sooner.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

enum Turn {
    Close,
    SentAway,
    Answer(Result<Option<Bytes>, tonic::Status>),
    Room,
    Gone,
    Ready,
    Timer,
}

impl<'a, X: Exchange> Stream<'a, X> {
    pub(super) fn new(
        parts: &'a EndpointParts<X>,
        core: &'a Arc<Core>,
        probe: &'a Probe,
        machine: Plain,
    ) -> Self {
        let lost = Lost(&*parts.exchange);
        let (acks, ready) = (0, true);
        let (close_at, is_sent_away) = (None, false);
        Self { parts, core, probe, machine, lost, acks, ready, close_at, is_sent_away }
    }

    pub(super) async fn run(mut self, registered: Registered) -> Result<(), LinkError> {
        let Registered { mut answers, requests, early, .. } = registered;
        let mut requests = Some(requests);
        for encoded in early {
            self.answer(encoded)?;
        }
        loop {
            if self.is_drained() && requests.take().is_some() {
                // Half-close: the peer ends its direction when it has read everything.
                let wait_until = now() + CLOSE_WAIT;
                self.close_at = self.close_at.map(|at| at.min(wait_until));
            }
            let wants = self.machine.wants_heartbeat() || (self.ready && self.may_send());
            let idle = !self.ready && self.may_send();
            let mut wake_at = self.machine.poll_timeout();
            if let Some(close_at) = self.close_at {
                wake_at = wake_at.min(close_at);
            }
            let step = tokio::select! {
                biased;
                () = self.parts.shutdown.cancelled(), if self.close_at.is_none() => Turn::Close,
                () = self.probe.going_away(), if self.close_at.is_none() => Turn::SentAway,
                answer = answers.message() => Turn::Answer(answer),
                room = room(requests.as_ref()), if wants => {
                    if room { Turn::Room } else { Turn::Gone }
                }
                () = self.parts.exchange.ready(), if idle => Turn::Ready,
                () = tokio::time::sleep_until(wake_at.into()) => Turn::Timer,
            };
            match step {
                Turn::Close => self.drain("this side shuts down"),
                Turn::SentAway => {
                    self.is_sent_away = true;
                    self.drain(GOAWAY);
                }
                Turn::Answer(Ok(Some(encoded))) => self.answer(encoded)?,
                Turn::Answer(Ok(None)) => return Err(self.closed()),
                // After a polite close the transport may go down in any way it likes.
                Turn::Answer(Err(_)) if self.is_sent_away && self.is_drained() => {
                    return Err(self.closed());
                }
                Turn::Answer(Err(status)) => {
                    return Err(LinkError::from_status(Step::Stream, &status, self.probe));
                }
                Turn::Gone => requests = None,
                Turn::Room => {
                    if let Some(requests) = &requests {
                        self.send(requests)?;
                    }
                }
                Turn::Ready => self.ready = true,
                Turn::Timer => {
                    if self.close_at.is_some_and(|at| now() >= at) {
                        return if self.is_sent_away { Err(self.closed()) } else { Ok(()) };
                    }
                    let alive = self.machine.handle_timeout(now());
                    alive.map_err(|dead| LinkError::new(Step::Stream, LinkCause::Dead(dead)))?;
                    self.perform(None)?;
                }
            }
        }
    }

    /// Nothing new leaves; what is in flight may be answered, within a bound.
    fn drain(&mut self, reason: &str) {
        let deadline = self.parts.settings.drain;
        self.close_at = Some(now() + deadline);
        self.core.see(now(), &Observed::Draining { deadline, reason, by_peer: false });
    }

    /// The stream is over, and nothing went wrong.
    fn closed(&self) -> LinkError {
        if self.is_sent_away {
            going_away()
        } else {
            LinkError::new(Step::Stream, LinkCause::Closed)
        }
    }

    fn may_send(&self) -> bool {
        self.close_at.is_none() && self.machine.poll_budget().is_some()
    }

    fn is_drained(&self) -> bool {
        self.close_at.is_some() && self.machine.in_flight() == 0
    }

    fn answer(&mut self, encoded: Bytes) -> Result<(), LinkError> {
        let response = decode(&encoded)?;
        self.machine.handle_response(now(), &response);
        self.perform(Some((response, encoded)))
    }

    /// There is room for one request at least: a heartbeat first, then what is most urgent.
    fn send(&mut self, requests: &Requests) -> Result<(), LinkError> {
        let wall = self.parts.clock.now();
        if let Some(heartbeat) = self.machine.poll_heartbeat(wall) {
            self.push(requests, heartbeat.encode_to_vec().into())?;
        }
        let room = u32::try_from(requests.room()).unwrap_or(u32::MAX);
        let Some(mut budget) = self.machine.poll_budget().filter(|_| self.may_send()) else {
            return self.perform(None);
        };
        if room == 0 {
            return self.perform(None);
        }
        budget.messages = budget.messages.min(room);
        let records = self.parts.exchange.poll_batch(budget);
        self.ready = !records.is_empty();
        let at = now();
        for record in &records {
            if self.machine.handle_send(at, wall, record) {
                self.push(requests, record.message.payload.clone())?;
            }
        }
        if !records.is_empty() {
            let in_flight = self.machine.in_flight();
            // Its acknowledgements wait for answers: they are never late.
            let sent = Observed::Sent { records: &records, in_flight, awaited: 0 };
            self.core.see(at, &sent);
        }
        self.perform(None)
    }

    /// The room was counted before, and nobody else sends.
    fn push(&self, requests: &Requests, encoded: Bytes) -> Result<(), LinkError> {
        requests.push(encoded).map_err(|refused| match refused {
            NotTaken::Closed => {
                LinkError::from_status(Step::Stream, &tonic::Status::unavailable(""), self.probe)
            }
            NotTaken::Full => {
                let text = "T28: no room was left".to_owned();
                LinkError::new(Step::Stream, LinkCause::Invariant(text))
            }
        })
    }

    fn perform(
        &mut self,
        mut response: Option<(alys_stream_protocol::governance::StreamResponse, Bytes)>,
    ) -> Result<(), LinkError> {
        let (at, exchange) = (now(), &self.parts.exchange);
        let mut settled = SeqSet::new();
        let mut ended = None;
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Settled(seq) => {
                    settled.insert(seq);
                }
                Event::Nacked(nack) => {
                    self.core.see(at, &Observed::Nacked(&nack));
                    exchange.nacked(nack);
                }
                Event::Alive(rtt) => self.core.see(at, &Observed::Alive(rtt)),
                Event::Quality(quality) => self.core.see(at, &Observed::Quality(quality)),
                Event::Suspended { reason, resume_after } => {
                    let resume_after = Some(resume_after);
                    self.core.feed(connection::Event::Suspended { reason, resume_after });
                }
                Event::Resumed => self.core.see(at, &Observed::Resumed("the delay is over")),
                Event::Reauthenticate { reason } => {
                    let reason = format!("the peer does not know us any more: {reason}");
                    ended = Some(broken(reason));
                }
                Event::Deliver => {
                    if let Some((response, encoded)) = response.take() {
                        exchange.receive_unsequenced(response, encoded);
                    }
                }
            }
        }
        if !settled.is_empty() {
            self.acks += 1;
            exchange.acked(self.acks, &settled);
            let in_flight = self.machine.in_flight();
            let acked = Observed::Acked { ranges: &settled, in_flight, awaited: 0 };
            self.core.see(at, &acked);
            self.ready = true;
        }
        self.core.set_in_flight(self.machine.in_flight());
        ended.map_or(Ok(()), Err)
    }
}

/// Resolves when one more request fits: `false` when nobody takes requests any more.
async fn room(requests: Option<&Requests>) -> bool {
    match requests {
        Some(requests) => requests.ready().await,
        None => std::future::pending().await,
    }
}

fn broken(text: String) -> LinkError {
    LinkError::new(Step::Stream, LinkCause::Broken(text))
}
