//! Acceptances and outcomes, for people and as JSON.

use alys_stream_protocol::governance::SignatureStatus;
use alys_stream_protocol::submission::{Acceptance, AwaitOutcomeResponse, OutcomeState};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;

pub(super) fn acceptance(acceptance: &Acceptance, as_json: bool) -> Result<(), Failure> {
    let Acceptance { seq, duplicate, .. } = acceptance;
    let id = id_text(&acceptance.message_id);
    if as_json {
        return output::line(json!({ "accepted": id, "seq": seq, "duplicate": duplicate }));
    }
    let note = if *duplicate { ", as before" } else { "" };
    if *seq == 0 {
        output::line(format_args!("accepted {id} (not stored){note}"))
    } else {
        output::line(format_args!("accepted {id} as {seq}{note}"))
    }
}

pub(super) fn outcome(outcome: &AwaitOutcomeResponse, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::line(as_value(outcome));
    }
    let id = id_text(&outcome.message_id);
    let mut line = format!("{} {id}", state_word(outcome.state()));
    if outcome.inputs > 0 {
        line += &format!(": {} of {} inputs signed", outcome.inputs_signed, outcome.inputs);
    }
    if !outcome.reason.is_empty() {
        line += &format!(": {}", outcome.reason);
    }
    output::line(line)?;
    if outcome.transaction.is_empty() {
        return Ok(());
    }
    output::line(format_args!("  transaction {}", hex::encode(&outcome.transaction)))
}

fn as_value(outcome: &AwaitOutcomeResponse) -> Value {
    let answers: Vec<Value> = outcome
        .answers
        .iter()
        .map(|answer| {
            json!({
                "endpoint": answer.endpoint,
                "status": status_word(answer.status()),
                "signatures_valid": answer.signatures_valid,
                "signatures_invalid": answer.signatures_invalid,
                "reason": answer.reason,
            })
        })
        .collect();
    json!({
        "message_id": id_text(&outcome.message_id),
        "state": state_word(outcome.state()),
        "inputs_signed": outcome.inputs_signed,
        "inputs": outcome.inputs,
        "transaction": hex::encode(&outcome.transaction),
        "reason": outcome.reason,
        "answers": answers,
    })
}

fn state_word(state: OutcomeState) -> &'static str {
    match state {
        OutcomeState::Unspecified => "unknown",
        OutcomeState::Accepted => "accepted",
        OutcomeState::Pending => "pending",
        OutcomeState::Complete => "complete",
        OutcomeState::Failed => "failed",
        OutcomeState::TimedOut => "timed out",
    }
}

fn status_word(status: SignatureStatus) -> &'static str {
    match status {
        SignatureStatus::Unspecified => "none",
        SignatureStatus::Pending => "pending",
        SignatureStatus::Partial => "partial",
        SignatureStatus::Complete => "complete",
        SignatureStatus::Failed => "failed",
        SignatureStatus::Timeout => "timeout",
    }
}

fn id_text(bytes: &[u8]) -> String {
    alys_stream_protocol::message::MessageId::try_from_slice(bytes)
        .map_or_else(|_| hex::encode(bytes), |id| id.to_string())
}
