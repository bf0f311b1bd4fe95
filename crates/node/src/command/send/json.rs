//! Messages as JSON: the fields of the interface, with bytes in hexadecimal.

use std::io::BufRead;

use alys_stream_protocol::governance::RequestPriority;
use alys_stream_protocol::governance::{
    NodeStatus, PeginNotification, SignatureRequest, StatusUpdate, SyncStatus, TransactionType,
};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{ApplicationMessage, Submission, submission};
use bytes::Bytes;
use serde::Deserialize;

use super::payload::from_hex;
use crate::failure::Failure;

/// One message; what is absent comes from the options of the command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    id: Option<String>,
    priority: Option<Priority>,
    deadline_ms: Option<i64>,
    ordering_key: Option<String>,
    traceparent: Option<String>,
    pegin: Option<Pegin>,
    status: Option<Status>,
    signature: Option<Signature>,
    application: Option<Application>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Priority {
    Low,
    Normal,
    High,
    Critical,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pegin {
    txid: String,
    vout: u32,
    amount: u64,
    evm_address: String,
    confirmations: u32,
    extra_data: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    status: String,
    height: u64,
    sync: String,
    #[serde(default)]
    connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    tx: String,
    inputs: Option<Vec<u32>>,
    amounts: Vec<u64>,
    #[serde(default = "one")]
    required: u32,
    #[serde(rename = "type")]
    purpose: Option<String>,
    timeout: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Application {
    kind: u32,
    text: Option<String>,
    hex: Option<String>,
}

const fn one() -> u32 {
    1
}

/// Reads one object, or one per line, as they come. `envelope` fills in what the options of the
/// command say.
pub(super) fn read(
    input: impl BufRead,
    envelope: impl Fn(submission::Payload) -> Submission,
) -> impl Iterator<Item = Result<Submission, Failure>> {
    let objects = serde_json::Deserializer::from_reader(input).into_iter();
    objects.enumerate().map(move |(index, object)| {
        let place = format!("standard input, message {}", index + 1);
        let object: Input = object.map_err(|error| failed(&place, &error))?;
        object.into_submission(&place, &envelope)
    })
}

impl Input {
    fn into_submission(
        self,
        place: &str,
        envelope: impl Fn(submission::Payload) -> Submission,
    ) -> Result<Submission, Failure> {
        let payload = payload(place, self.pegin, self.status, self.signature, self.application)?;
        let mut submission = envelope(payload);
        if let Some(id) = self.id {
            let id: MessageId =
                id.parse().map_err(|error| failed(place, &format!("id: {error}")))?;
            submission.message_id = Bytes::copy_from_slice(id.as_bytes());
        }
        if let Some(priority) = self.priority {
            submission.priority = i32::from(match priority {
                Priority::Low => RequestPriority::Low,
                Priority::Normal => RequestPriority::Normal,
                Priority::High => RequestPriority::High,
                Priority::Critical => RequestPriority::Critical,
            });
        }
        if let Some(deadline) = self.deadline_ms {
            submission.deadline_ms = deadline;
        }
        if let Some(key) = self.ordering_key {
            submission.ordering_key = key.into();
        }
        submission.traceparent = self.traceparent.unwrap_or_default();
        Ok(submission)
    }
}

fn payload(
    place: &str,
    pegin: Option<Pegin>,
    status: Option<Status>,
    signature: Option<Signature>,
    application: Option<Application>,
) -> Result<submission::Payload, Failure> {
    match (pegin, status, signature, application) {
        (Some(pegin), None, None, None) => pegin.into_payload(),
        (None, Some(status), None, None) => status.into_payload(place),
        (None, None, Some(signature), None) => signature.into_payload(place),
        (None, None, None, Some(application)) => application.into_payload(place),
        _ => Err(failed(place, &"give exactly one of pegin, status, signature, application")),
    }
}

impl Pegin {
    fn into_payload(self) -> Result<submission::Payload, Failure> {
        let extra_data = self.extra_data.map(|text| from_hex("extra_data", &text)).transpose()?;
        Ok(submission::Payload::PeginNotification(PeginNotification {
            btc_txid: self.txid,
            vout: self.vout,
            amount: self.amount,
            evm_address: self.evm_address,
            confirmations: self.confirmations,
            extra_data,
        }))
    }
}

impl Status {
    fn into_payload(self, place: &str) -> Result<submission::Payload, Failure> {
        let status = word("NODE_STATUS", &self.status);
        let status = NodeStatus::from_str_name(&status).ok_or_else(|| {
            failed(place, &"status.status: starting, syncing, active, degraded or offline")
        })?;
        let sync = word("SYNC_STATUS", &self.sync);
        let sync = SyncStatus::from_str_name(&sync)
            .ok_or_else(|| failed(place, &"status.sync: synced, syncing, stalled or error"))?;
        Ok(submission::Payload::StatusUpdate(StatusUpdate {
            status: status.into(),
            block_height: self.height,
            sync_status: sync.into(),
            connection_count: self.connections,
            metrics: None,
        }))
    }
}

impl Signature {
    fn into_payload(self, place: &str) -> Result<submission::Payload, Failure> {
        let purpose = word("TRANSACTION_TYPE", self.purpose.as_deref().unwrap_or("pegout"));
        let purpose = TransactionType::from_str_name(&purpose).ok_or_else(|| {
            failed(place, &"signature.type: pegin, pegout, federation_change or emergency")
        })?;
        let all = || (0..).take(self.amounts.len()).collect();
        Ok(submission::Payload::SignatureRequest(SignatureRequest {
            tx_hex: self.tx,
            input_indices: self.inputs.unwrap_or_else(all),
            amounts: self.amounts.clone(),
            tx_type: purpose.into(),
            required_signatures: self.required,
            timeout_seconds: self.timeout,
        }))
    }
}

impl Application {
    fn into_payload(self, place: &str) -> Result<submission::Payload, Failure> {
        let payload = match (self.text, self.hex) {
            (Some(text), None) => text.into(),
            (None, Some(hex)) => from_hex("application.hex", &hex)?,
            _ => return Err(failed(place, &"application: give text or hex")),
        };
        let kind = self.kind;
        Ok(submission::Payload::Application(ApplicationMessage { kind, payload }))
    }
}

/// `active` becomes `NODE_STATUS_ACTIVE`.
fn word(prefix: &str, word: &str) -> String {
    format!("{prefix}_{}", word.to_ascii_uppercase())
}

fn failed(place: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format_args!("{place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<Submission>, String> {
        let envelope = |payload| Submission { payload: Some(payload), ..Submission::default() };
        let read: Result<Vec<_>, Failure> = read(text.as_bytes(), envelope).collect();
        read.map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_object_per_line() {
        let two = check(
            "{\"priority\": \"high\", \"application\": {\"kind\": 1000, \"text\": \"a\"}}\n\
             {\"pegin\": {\"txid\": \"x\", \"vout\": 1, \"amount\": 2, \"evm_address\": \"y\", \"confirmations\": 3}}",
        )
        .unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[0].priority, i32::from(RequestPriority::High));
    }

    #[test]
    fn inputs_default_to_the_first_ones() {
        let text = "{\"signature\": {\"tx\": \"00\", \"amounts\": [5, 6]}}";
        let submissions = check(text).unwrap();
        let Some(submission::Payload::SignatureRequest(request)) = &submissions[0].payload else {
            panic!("a signature request");
        };
        assert_eq!(request.input_indices, [0, 1]);
        assert_eq!(request.tx_type(), TransactionType::Pegout);
    }

    #[test]
    fn errors_name_the_message() {
        let errors = [
            ("{}", "message 1: give exactly one of"),
            ("{\"apps\": {}}", "unknown field `apps`"),
            (
                "{\"id\": \"7\", \"application\": {\"kind\": 1000, \"text\": \"a\"}}",
                "id: not a UUID",
            ),
            ("{\"application\": {\"kind\": 1000, \"hex\": \"0\"}}", "not hexadecimal"),
        ];
        for (text, expected) in errors {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
