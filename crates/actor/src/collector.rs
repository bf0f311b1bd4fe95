//! Collects verified signatures across endpoints until every input has its threshold.
//!
//! Pure: no clock, no tasks, no files. `SignatureResponse` names neither input nor signer, so a
//! signature is attributed by verifying it (done by the caller with [`SigningTask::attribute`],
//! outside any lock), and what cannot be attributed is invalid: counted against its source, never
//! used.
//!
//! Invariants:
//! - A3: a request concludes at most once.
//! - A4: only signatures that were verified against an input and a member are ever part of a result.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::governance::{SignatureStatus, WitnessData};
use alys_stream_protocol::message::{LogId, MessageId, Seq};
use alys_stream_protocol::signing::{Attribution, SigningTask};
use alys_stream_protocol::submission::{EndpointAnswer, InputSignatures, OutcomeState};
use bitcoin::consensus::encode::serialize;

use crate::outcome::Outcome;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A session: the log of the peer, which outlives streams and restarts.
    Log(LogId),
    /// A plain stream of the endpoint with this index.
    Plain(u16),
}

/// One answer with its signatures already verified.
#[derive(Debug)]
pub(crate) struct VerifiedAnswer {
    pub(crate) status: SignatureStatus,
    pub(crate) reason: String,
    pub(crate) signatures: Vec<(Attribution, WitnessData)>,
    pub(crate) invalid: u32,
}

/// What an answer changed.
#[derive(Debug)]
pub(crate) enum Step {
    /// The request is not open (any more).
    Unknown,
    /// It is still open; followers may like to know.
    Progress(Box<Outcome>),
    /// It is over.
    Concluded(Seq, Box<Outcome>),
}

/// The open signature requests.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    open: BTreeMap<MessageId, Open>,
    ids: BTreeMap<Seq, MessageId>,
    endpoints: usize,
}

#[derive(Debug)]
struct Open {
    seq: Seq,
    task: Arc<SigningTask>,
    /// For each requested input, the signature of each member.
    signatures: Vec<BTreeMap<usize, WitnessData>>,
    answers: BTreeMap<Source, Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    status: SignatureStatus,
    valid: u32,
    invalid: u32,
    reason: String,
}

impl Collector {
    /// A collector for requests that go to this many endpoints.
    pub(crate) const fn new(endpoints: usize) -> Self {
        Self { open: BTreeMap::new(), ids: BTreeMap::new(), endpoints }
    }

    /// How many requests are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Starts collecting for an accepted request. Opening it again changes nothing.
    pub(crate) fn handle_accepted(&mut self, id: MessageId, seq: Seq, task: Arc<SigningTask>) {
        self.ids.insert(seq, id);
        self.open.entry(id).or_insert_with(|| Open {
            seq,
            signatures: vec![BTreeMap::new(); task.inputs().len()],
            task,
            answers: BTreeMap::new(),
        });
    }

    /// What to verify an answer against; `None` when the request is not open.
    pub(crate) fn task(&self, id: &MessageId) -> Option<Arc<SigningTask>> {
        self.open.get(id).map(|open| Arc::clone(&open.task))
    }

    /// The number of an open request.
    pub(crate) fn seq(&self, id: &MessageId) -> Option<Seq> {
        self.open.get(id).map(|open| open.seq)
    }

    /// Takes a verified answer.
    pub(crate) fn handle_answer(
        &mut self,
        id: MessageId,
        source: Source,
        answer: VerifiedAnswer,
        name_of: impl Fn(Source) -> String,
    ) -> Step {
        let Some(open) = self.open.get_mut(&id) else {
            return Step::Unknown;
        };
        open.apply(source, answer);
        if open.is_complete() {
            let outcome = open.complete(id, &name_of);
            let seq = open.seq;
            self.open.remove(&id);
            self.ids.remove(&seq);
            return Step::Concluded(seq, Box::new(outcome));
        }
        if open.is_hopeless(self.endpoints) {
            let mut outcome = open.snapshot(id, OutcomeState::Failed, &name_of);
            outcome.reason = open.reasons(&name_of);
            let seq = open.seq;
            self.open.remove(&id);
            self.ids.remove(&seq);
            return Step::Concluded(seq, Box::new(outcome));
        }
        Step::Progress(Box::new(open.snapshot(id, OutcomeState::Pending, &name_of)))
    }

    /// Where an open request stands.
    pub(crate) fn snapshot(
        &self,
        id: MessageId,
        name_of: impl Fn(Source) -> String,
    ) -> Option<Outcome> {
        let open = self.open.get(&id)?;
        let state =
            if open.answers.is_empty() { OutcomeState::Accepted } else { OutcomeState::Pending };
        Some(open.snapshot(id, state, &name_of))
    }

    /// Stops collecting for a request that died (deadline, refusal). Returns how far it got; `None`
    /// when the message is no open request.
    pub(crate) fn handle_dead(
        &mut self,
        seq: Seq,
        state: OutcomeState,
        name_of: impl Fn(Source) -> String,
    ) -> Option<Outcome> {
        let id = self.ids.remove(&seq)?;
        let open = self.open.remove(&id)?;
        Some(open.snapshot(id, state, &name_of))
    }
}

impl Open {
    fn apply(&mut self, source: Source, answer: VerifiedAnswer) {
        let kept = self.answers.entry(source).or_default();
        kept.status = answer.status;
        kept.reason = answer.reason;
        kept.invalid = kept.invalid.saturating_add(answer.invalid);
        for (place, witness) in answer.signatures {
            let Some(members) = self.signatures.get_mut(place.input) else {
                continue;
            };
            if members.insert(place.member, witness).is_none() {
                kept.valid = kept.valid.saturating_add(1);
            }
        }
    }

    fn required(&self) -> usize {
        usize::try_from(self.task.required()).unwrap_or(usize::MAX)
    }

    fn inputs_signed(&self) -> usize {
        let required = self.required();
        self.signatures.iter().filter(|members| members.len() >= required).count()
    }

    fn is_complete(&self) -> bool {
        self.inputs_signed() == self.signatures.len()
    }

    /// Every endpoint has refused or run out of time. Anything less is left to the deadline: an
    /// endpoint may hold several keys and may still collect.
    fn is_hopeless(&self, endpoints: usize) -> bool {
        self.answers.len() >= endpoints
            && self.answers.values().all(|answer| {
                matches!(answer.status, SignatureStatus::Failed | SignatureStatus::Timeout)
            })
    }

    fn reasons(&self, name_of: &impl Fn(Source) -> String) -> String {
        let mut text = String::from("every endpoint refused");
        for (source, answer) in &self.answers {
            let reason = if answer.reason.is_empty() { "no reason given" } else { &answer.reason };
            text.push_str("; ");
            text.push_str(&name_of(*source));
            text.push_str(": ");
            text.push_str(reason);
        }
        text
    }

    fn snapshot(
        &self,
        id: MessageId,
        state: OutcomeState,
        name_of: &impl Fn(Source) -> String,
    ) -> Outcome {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Outcome {
            state: i32::from(state),
            message_id: id.as_bytes().to_vec().into(),
            inputs_signed: count(self.inputs_signed()),
            inputs: count(self.signatures.len()),
            answers: self
                .answers
                .iter()
                .map(|(source, answer)| EndpointAnswer {
                    endpoint: name_of(*source),
                    status: i32::from(answer.status),
                    signatures_valid: answer.valid,
                    signatures_invalid: answer.invalid,
                    reason: answer.reason.clone(),
                })
                .collect(),
            ..Outcome::default()
        }
    }

    fn complete(&self, id: MessageId, name_of: &impl Fn(Source) -> String) -> Outcome {
        let mut outcome = self.snapshot(id, OutcomeState::Complete, name_of);
        let mut witnesses = Vec::with_capacity(self.signatures.len());
        for (position, members) in self.signatures.iter().enumerate() {
            let bytes: BTreeMap<usize, Vec<u8>> =
                members.iter().map(|(member, w)| (*member, w.signature.to_vec())).collect();
            let witness = self.task.witness(position, &bytes);
            outcome.signatures.push(InputSignatures {
                input_index: self.task.inputs()[position],
                signatures: members.values().cloned().collect(),
                witness: witness
                    .iter()
                    .flat_map(bitcoin::Witness::iter)
                    .map(|item| item.to_vec().into())
                    .collect(),
            });
            witnesses.extend(witness);
        }
        if let Some(transaction) = self.task.signed_transaction(witnesses) {
            outcome.transaction = serialize(&transaction).into();
        }
        outcome
    }
}

/// Verifies every signature of an answer; what no input and member can be found for is invalid.
pub(crate) fn verify(
    task: &SigningTask,
    status: SignatureStatus,
    reason: String,
    signatures: Vec<WitnessData>,
) -> VerifiedAnswer {
    let mut verified = VerifiedAnswer { status, reason, signatures: Vec::new(), invalid: 0 };
    // More than every member can give for every input is never honest, and each bogus signature
    // costs a verification per input and member.
    let most = task.inputs().len() * task.federation().members().len();
    let excess = signatures.len().saturating_sub(most);
    verified.invalid = u32::try_from(excess).unwrap_or(u32::MAX);
    let signatures: Vec<_> = signatures.into_iter().take(most).collect();
    let places = task.attribute_all(&signatures);
    for (place, witness) in places.into_iter().zip(signatures) {
        match place {
            Some(place) => verified.signatures.push((place, witness)),
            None => verified.invalid = verified.invalid.saturating_add(1),
        }
    }
    verified
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
