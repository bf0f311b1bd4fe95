//! How something that was pushed ends: dealt with, kept, tried again, or a dead letter; and then its
//! peer is told.

use std::sync::Arc;

use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetter};
use alys_stream_messaging::outbox::{Cause, OWN_REFUSAL};
use alys_stream_protocol::message::{LogId, Seq};
use alys_stream_transport::session::driver::Control;
use tokio::time::Instant;

use super::super::{Delivery, State};
use super::attempt::Outcome;
use super::lane::{self, Next, Waiting};
use super::{Duty, LaneName, lock};
use crate::collector::Source;
use crate::links::Links;

impl Delivery {
    /// Takes what came of an attempt in.
    async fn conclude_duty(
        &self,
        name: LaneName,
        waiting: Waiting<Duty>,
        outcome: Outcome,
    ) -> Result<(), String> {
        let now = Instant::now().into_std();
        match outcome {
            Outcome::Done => {
                let duty = self.duties.lane(name).handle_done(waiting);
                self.end_duty(&duty);
            }
            Outcome::Kept => {
                // It is on disk and counted: its peer needs to hear no more. After a restart it is
                // counted again.
                if let Some(place) = waiting.item.place {
                    self.duties.handle_ended(place);
                }
                self.duties.lane(name).handle_kept(now, waiting);
            }
            Outcome::Unknown => {
                let given_up = self.duties.lane(name).handle_failed(now, waiting);
                if let Some(duty) = given_up {
                    self.end_duty(&duty);
                }
            }
            Outcome::Later(reason) => {
                let given_up = self.duties.lane(name).handle_failed(now, waiting);
                if let Some(duty) = given_up {
                    let text = format!("tried {} times: {reason}", lane::ATTEMPTS_MAX);
                    self.bury_duty(duty, text).await?;
                }
            }
            Outcome::Never(reason) => {
                let duty = self.duties.lane(name).handle_done(waiting);
                self.bury_duty(duty, reason).await?;
            }
        }
        Ok(())
    }

    fn end_duty(&self, duty: &Duty) {
        if let Some(entry) = duty.entry {
            // Not awaited: a crash before it is durable hands it on again.
            _ = self.inbox.handled(&[entry]);
        }
        if let Some(place) = duty.place {
            self.duties.handle_ended(place);
        }
    }

    /// Nobody dealt with it: it is a dead letter before its peer hears anything.
    async fn bury_duty(&self, duty: Duty, text: String) -> Result<(), String> {
        let died_at = self.clock.now();
        let (log, seq) = duty.place.unwrap_or((LogId::new([0; 16]), Seq::VOLATILE));
        let endpoint = State::source_name(&self.lock().peers, self, duty.source);
        let kind = duty.message.kind;
        tracing::error!(%kind, id = %duty.message.id, text, "dead letter of what governance pushed");
        let cause = Cause::Refused { code: OWN_REFUSAL, text: text.clone() };
        self.metrics.dead_letter(cause.as_str());
        let letter = DeadLetter {
            log,
            seq,
            message: duty.message.clone(),
            accepted_at: died_at,
            died_at,
            cause,
            attempts: vec![DeadAttempt {
                endpoint,
                at: died_at,
                code: OWN_REFUSAL,
                text: text.clone(),
            }],
            error_chain: vec![text],
        };
        let (_, position) = self.dead_letters.put(&letter);
        self.dead_letters.durable(position).await.map_err(|error| error.to_string())?;
        // Not while messages may be dying (A20): the timer does it then.
        if let Ok(ending) = self.ending.try_lock()
            && !*ending
        {
            self.dead_letters.expire(died_at);
        }
        self.lock().counts.dead_letters += 1;
        self.end_duty(&duty);
        Ok(())
    }

    /// Acknowledges what was dealt with, as far as sessions are there for it.
    fn acknowledge_duties(&self, links: &Links) {
        let owed = std::mem::take(&mut lock(&self.duties.places).owed);
        for (log, seqs) in owed {
            let endpoint = self.lock().endpoint_of(Source::Log(log));
            let all = || seqs.iter().collect();
            if endpoint.is_none_or(|at| !links.order(at, Control::Stored(all()))) {
                let mut places = lock(&self.duties.places);
                seqs.ranges().for_each(|range| {
                    places.owed.entry(log).or_default().insert_range(range);
                });
            }
        }
    }
}

/// Deals with what is in one lane, one after the other, until it is aborted.
///
/// # Errors
///
/// When a store cannot be written: the StreamActor is then built again from the disk.
pub(crate) async fn run(
    delivery: Arc<Delivery>,
    links: Arc<Links>,
    name: LaneName,
) -> Result<(), String> {
    loop {
        let arrived = delivery.duties.arrived[name as usize].notified();
        let next = delivery.duties.lane(name).poll(Instant::now().into_std());
        match next {
            Next::Item(waiting) => {
                let outcome = delivery.deal_with(&waiting.item, waiting.failures).await?;
                delivery.conclude_duty(name, waiting, outcome).await?;
                delivery.acknowledge_duties(&links);
            }
            // Either way it is looked again.
            Next::At(due) => {
                _ = tokio::time::timeout_at(due.into(), arrived).await;
            }
            Next::Idle => arrived.await,
        }
    }
}
