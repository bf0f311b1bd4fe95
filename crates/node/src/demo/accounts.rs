//! The demo's own books: what was asked for, what was promised, what came of it.
//!
//! A pure machine, told everything with the time since the start of the run. It never believes the
//! node: what is lost or applied twice is decided by what the governance nodes wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{AwaitOutcomeResponse, OutcomeState};

use super::pegout::BadTransaction;
use super::samples::Samples;
use super::timeline::Fault;

/// Most problems that are told apart; further ones are only counted.
const PROBLEMS_MAX: usize = 10;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Signatures: enough governance nodes must have it.
    Pegout,
    /// To be told: every governance node must have it.
    Pegin,
}

#[derive(Debug)]
struct Entry {
    class: Class,
    accepted_at: Option<Duration>,
    ended: Option<OutcomeState>,
}

/// One fault, as it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FaultRecord {
    pub(crate) kind: Fault,
    pub(crate) at: Duration,
    /// How long after it things were well again.
    pub(crate) recovered: Option<Duration>,
}

/// What governance applied: how often each message, for each governance node.
pub(crate) type Ledger = BTreeMap<MessageId, u64>;

/// The verdict of the ledgers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    pub(crate) lost: BTreeSet<MessageId>,
    pub(crate) applied_twice: BTreeSet<MessageId>,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Accepted as durable.
    pub(crate) accepted: u64,
    /// Ended as promised.
    pub(crate) settled: u64,
    /// Ended with a cause of death.
    pub(crate) dead: u64,
    /// Peg-outs with all signatures.
    pub(crate) signed: u64,
    /// Status updates: accepted, never stored.
    pub(crate) volatile: u64,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    entries: BTreeMap<MessageId, Entry>,
    counts: Counts,
    verified: u64,
    signatures_invalid: u64,
    forgotten: BTreeSet<MessageId>,
    faults: Vec<FaultRecord>,
    problems: Vec<String>,
    problems_more: u64,
    accept: Samples,
    ack: Samples,
    ack_outage: Samples,
    signature: Samples,
}

impl Accounts {
    /// A message is about to be submitted.
    pub(crate) fn handle_created(&mut self, id: MessageId, class: Class) {
        self.entries.insert(id, Entry { class, accepted_at: None, ended: None });
    }

    /// The node promised to deliver it; the call took this long.
    pub(crate) fn handle_accepted(&mut self, now: Duration, id: MessageId, took: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.accepted_at.is_none() {
            entry.accepted_at = Some(now);
            self.counts.accepted += 1;
            self.accept.push(micros(took));
        }
    }

    /// The node took a message that is never stored.
    pub(crate) fn handle_volatile(&mut self, took: Duration) {
        self.counts.volatile += 1;
        self.accept.push(micros(took));
    }

    /// The node refused it for good; it was never promised.
    pub(crate) fn handle_refused(&mut self, id: MessageId, why: &str) {
        self.entries.remove(&id);
        self.problem(format!("refused: {id}: {why}"));
    }

    /// The node says that it does not know a message that it promised to deliver.
    pub(crate) fn handle_forgotten(&mut self, id: MessageId) {
        self.forgotten.insert(id);
        self.problem(format!("accepted, then unknown: {id}"));
    }

    /// A message reached its end. `checked` is what Bitcoin says about its transaction.
    /// Returns the faults that this shows to be over.
    pub(crate) fn handle_ended(
        &mut self,
        now: Duration,
        id: MessageId,
        outcome: &AwaitOutcomeResponse,
        checked: Option<Result<(), BadTransaction>>,
    ) -> Vec<FaultRecord> {
        let state = outcome.state();
        let invalid: u64 =
            outcome.answers.iter().map(|answer| u64::from(answer.signatures_invalid)).sum();
        self.signatures_invalid += invalid;
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.ended.is_none()) else {
            return Vec::new();
        };
        entry.ended = Some(state);
        let (class, accepted_at) = (entry.class, entry.accepted_at.unwrap_or(now));
        if state != OutcomeState::Complete {
            self.counts.dead += 1;
            self.problem(format!("dead: {id}: {}: {}", state.as_str_name(), outcome.reason));
            return Vec::new();
        }
        self.counts.settled += 1;
        let took = now.saturating_sub(accepted_at);
        if class == Class::Pegin {
            let outage = self.outages().any(|(from, to)| from <= now && accepted_at <= to);
            let samples = if outage { &mut self.ack_outage } else { &mut self.ack };
            samples.push(micros(took));
            return Vec::new();
        }
        self.signature.push(millis(took));
        self.counts.signed += 1;
        match checked {
            Some(Ok(())) => self.verified += 1,
            Some(Err(error)) => self.problem(format!("not valid: {id}: {error}")),
            None => self.problem(format!("complete without a transaction: {id}")),
        }
        self.recover_by_signature(now, accepted_at)
    }

    /// A fault was caused.
    pub(crate) fn handle_fault(&mut self, now: Duration, kind: Fault) {
        self.faults.push(FaultRecord { kind, at: now, recovered: None });
    }

    /// A fault was seen to be over; only the first time counts.
    pub(crate) fn handle_recovered(&mut self, now: Duration, kind: Fault) -> Option<FaultRecord> {
        let fault = self.faults.iter_mut().find(|fault| fault.kind == kind)?;
        if fault.recovered.is_some() {
            return None;
        }
        fault.recovered = Some(now.saturating_sub(fault.at));
        Some(*fault)
    }

    /// When not everything was up, as far as is known: from a kill until the connection is back.
    fn outages(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let back = |kind: Fault| {
            let fault = self.faults.iter().find(|fault| fault.kind == kind);
            fault.and_then(|fault| Some(fault.at + fault.recovered?)).unwrap_or(Duration::MAX)
        };
        self.faults.iter().filter_map(move |fault| match fault.kind {
            Fault::GovernanceKilled => Some((fault.at, back(Fault::GovernanceRestarted))),
            Fault::NodeRestarted => Some((fault.at, back(Fault::NodeRestarted))),
            Fault::GovernanceRestarted => None,
        })
    }

    /// A signature that was both asked for and completed after a fault shows that it is over.
    fn recover_by_signature(&mut self, now: Duration, accepted_at: Duration) -> Vec<FaultRecord> {
        let over = |fault: &FaultRecord| {
            fault.kind != Fault::GovernanceRestarted && fault.at < accepted_at
        };
        let kinds: Vec<Fault> =
            self.faults.iter().filter(|fault| over(fault)).map(|fault| fault.kind).collect();
        kinds.into_iter().filter_map(|kind| self.handle_recovered(now, kind)).collect()
    }

    /// Compares the promises with what governance applied. Every governance node must have each
    /// peg-in; `threshold` of them must have each peg-out that was signed.
    pub(crate) fn verdict(&self, ledgers: &[Ledger], threshold: usize) -> Verdict {
        let applied_twice =
            ledgers.iter().flatten().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect();
        let lost = self
            .entries
            .iter()
            .filter(|(id, entry)| {
                let holders = ledgers.iter().filter(|ledger| ledger.contains_key(id)).count();
                let needed = match entry.class {
                    Class::Pegout => threshold,
                    Class::Pegin => ledgers.len(),
                };
                entry.accepted_at.is_some()
                    && match entry.ended {
                        None => true,
                        Some(OutcomeState::Complete) => holders < needed,
                        // A dead letter has a cause; it is counted, not lost.
                        Some(_) => false,
                    }
            })
            .map(|(id, _)| *id)
            .chain(self.forgotten.iter().copied())
            .collect();
        Verdict { lost, applied_twice }
    }

    /// Accepted, and without an end so far.
    pub(crate) fn in_flight(&self) -> u64 {
        self.counts.accepted - self.counts.settled - self.counts.dead
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) const fn verified(&self) -> u64 {
        self.verified
    }

    pub(crate) const fn signatures_invalid(&self) -> u64 {
        self.signatures_invalid
    }

    pub(crate) fn faults(&self) -> &[FaultRecord] {
        &self.faults
    }

    /// Around the calls, in microseconds.
    pub(crate) const fn accept_us(&self) -> &Samples {
        &self.accept
    }

    /// Peg-ins, from accepted to acknowledged by all, in microseconds: those that never met an
    /// outage, and those that did.
    pub(crate) const fn ack_us(&self) -> (&Samples, &Samples) {
        (&self.ack, &self.ack_outage)
    }

    /// Peg-outs, from accepted to signed, in milliseconds.
    pub(crate) const fn signature_ms(&self) -> &Samples {
        &self.signature
    }

    /// What went wrong, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        if self.problems_more > 0 {
            problems.push(format!("and {} more", self.problems_more));
        }
        problems
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        } else {
            self.problems_more += 1;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: [Duration; 5] = [
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(30),
        Duration::from_millis(40),
        Duration::from_millis(50),
    ];

    fn outcome(state: OutcomeState) -> AwaitOutcomeResponse {
        AwaitOutcomeResponse { state: state.into(), ..AwaitOutcomeResponse::default() }
    }

    fn accepted(accounts: &mut Accounts, class: Class, at: Duration) -> MessageId {
        let id = MessageId::mint();
        accounts.handle_created(id, class);
        accounts.handle_accepted(at, id, Duration::from_micros(7));
        id
    }

    #[test]
    fn a_promise_that_no_ledger_knows_is_lost() {
        let mut accounts = Accounts::default();
        let everywhere = accepted(&mut accounts, Class::Pegin, T[0]);
        let partly = accepted(&mut accounts, Class::Pegin, T[0]);
        let signed = accepted(&mut accounts, Class::Pegout, T[0]);
        let dead = accepted(&mut accounts, Class::Pegin, T[0]);
        let unfinished = accepted(&mut accounts, Class::Pegout, T[0]);
        for id in [everywhere, partly] {
            accounts.handle_ended(T[1], id, &outcome(OutcomeState::Complete), None);
        }
        accounts.handle_ended(T[1], signed, &outcome(OutcomeState::Complete), Some(Ok(())));
        accounts.handle_ended(T[1], dead, &outcome(OutcomeState::TimedOut), None);
        let one = Ledger::from([(everywhere, 1), (partly, 1), (signed, 1)]);
        let two = Ledger::from([(everywhere, 1), (signed, 2)]);
        let verdict = accounts.verdict(&[one, two, Ledger::from([(everywhere, 1)])], 2);
        assert_eq!(verdict.lost, BTreeSet::from([partly, unfinished]));
        assert_eq!(verdict.applied_twice, BTreeSet::from([signed]));
        assert_eq!(accounts.in_flight(), 1);
        assert_eq!((accounts.verified(), accounts.counts().dead), (1, 1));
    }

    #[test]
    fn an_acceptance_counts_once() {
        let mut accounts = Accounts::default();
        let id = accepted(&mut accounts, Class::Pegin, T[0]);
        accounts.handle_accepted(T[1], id, Duration::ZERO);
        assert_eq!(accounts.counts().accepted, 1);
    }

    #[test]
    fn an_outage_does_not_hide_in_the_usual_latency() {
        let mut accounts = Accounts::default();
        let complete = outcome(OutcomeState::Complete);
        let before = accepted(&mut accounts, Class::Pegin, T[0]);
        accounts.handle_ended(T[1], before, &complete, None);
        accounts.handle_fault(T[2], Fault::GovernanceKilled);
        let during = accepted(&mut accounts, Class::Pegin, T[3]);
        accounts.handle_ended(T[4], during, &complete, None);
        let (usual, outage) = accounts.ack_us();
        assert_eq!((usual.percentiles().p50, outage.percentiles().p50), (10_000, 10_000));
    }

    #[test]
    fn what_was_asked_before_a_fault_does_not_show_recovery() {
        let mut accounts = Accounts::default();
        let before = accepted(&mut accounts, Class::Pegout, T[0]);
        accounts.handle_fault(T[1], Fault::GovernanceKilled);
        let after = accepted(&mut accounts, Class::Pegout, T[2]);
        let complete = outcome(OutcomeState::Complete);
        assert!(accounts.handle_ended(T[3], before, &complete, Some(Ok(()))).is_empty());
        let over = accounts.handle_ended(T[4], after, &complete, Some(Ok(())));
        assert_eq!(over[0].recovered, Some(T[4] - T[1]));
        assert!(accounts.handle_recovered(T[4], Fault::GovernanceKilled).is_none());
    }
}
