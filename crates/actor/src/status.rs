//! How everything is, as `/status` and `alys-stream status` show it.

use std::collections::BTreeMap;

use alys_stream_messaging::buffer::RecordGap;
use alys_stream_messaging::log::GapCause;
use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::grpc::EndpointStatus;
use serde::Serialize;

use crate::delivery::{Counts, Delivery};
use crate::links::Links;
use crate::submit::Submitter;
use crate::system::Phase;

/// Most gaps that are shown; all of them are in the log of the node.
const GAPS_MAX: usize = 64;

/// A snapshot of one node's link to governance.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The node's own name.
    pub node_id: String,
    /// `running`, `restarting`, `failed` or `stopped`.
    pub phase: &'static str,
    /// Why, when it is not running.
    pub reason: Option<String>,
    /// The number line of the buffer.
    pub log: Option<LogStatus>,
    /// What is accepted and unsettled.
    pub queues: Option<QueueStatus>,
    /// What the buffer could not read back when it was opened; the first of them.
    pub gaps: Vec<GapStatus>,
    /// What was counted since the start.
    pub counts: Option<CountsStatus>,
    /// Signature requests that wait for signatures.
    pub signatures_open: usize,
    /// One entry for each endpoint that is dialled.
    pub endpoints: Vec<LinkStatus>,
    /// The federation in force.
    pub federation: Option<FederationStatus>,
}

/// The number line of the buffer.
#[derive(Debug, Serialize)]
pub struct LogStatus {
    /// Which log.
    pub log_id: String,
    /// How often it was opened.
    pub epoch: u64,
    /// What the next message will get.
    pub next_seq: u64,
    /// Everything below is settled or dead.
    pub settled_below: u64,
}

/// What is accepted and unsettled.
#[derive(Debug, Serialize)]
pub struct QueueStatus {
    /// Messages.
    pub unsettled: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// The same by priority, most urgent first.
    pub by_priority: BTreeMap<&'static str, ClassStatus>,
    /// Age of the oldest one.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters on disk.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
}

/// A hole in the buffer that its opening found (D5).
#[derive(Debug, Serialize)]
pub struct GapStatus {
    /// The segment, as in the name of its file.
    pub segment: String,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// The first and the last message that is lost; nothing when none was.
    pub seqs: Option<[u64; 2]>,
    /// `damaged` or `missing`.
    pub cause: &'static str,
    /// Whether an earlier start reported it.
    pub is_known: bool,
}

/// One priority.
#[derive(Debug, Serialize)]
pub struct ClassStatus {
    /// Messages.
    pub records: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Counts since the start of the present StreamActor.
#[derive(Debug, Serialize)]
pub struct CountsStatus(Counts);

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct LinkStatus {
    /// What the connection says.
    #[serde(flatten)]
    pub connection: EndpointStatus,
    /// Messages that wait to be sent to it.
    pub queued: usize,
    /// Messages sent to it and not acknowledged.
    pub unacknowledged: usize,
}

/// The federation in force.
#[derive(Debug, Serialize)]
pub struct FederationStatus {
    /// Signatures that an input needs.
    pub threshold: u32,
    /// How many members there are.
    pub members: usize,
    /// The output script that peg-outs spend, as hexadecimal.
    pub script_pubkey: String,
}

impl Status {
    pub(crate) fn gather(
        phase: &Phase,
        links: &Links,
        submitter: &Submitter,
        now: UnixMillis,
    ) -> Self {
        let (word, reason, delivery) = match phase {
            Phase::Running(delivery) => ("running", None, Some(delivery)),
            Phase::Restarting => ("restarting", None, None),
            Phase::Failed(reason) => ("failed", Some(reason.clone()), None),
            Phase::Stopped => ("stopped", None, None),
        };
        Self {
            node_id: submitter.node_id.clone(),
            phase: word,
            reason,
            log: delivery.map(|delivery| LogStatus::of(delivery)),
            queues: delivery.map(|delivery| QueueStatus::of(delivery, now)),
            gaps: delivery.map_or_else(Vec::new, |delivery| {
                delivery.gaps.iter().take(GAPS_MAX).map(GapStatus::of).collect()
            }),
            counts: delivery.map(|delivery| CountsStatus(delivery.counts())),
            signatures_open: delivery.map_or(0, |delivery| delivery.signatures_open()),
            endpoints: links
                .statuses()
                .into_iter()
                .map(|(id, connection)| LinkStatus {
                    connection,
                    queued: delivery.map_or(0, |delivery| delivery.queued(id)),
                    unacknowledged: delivery.map_or(0, |delivery| delivery.in_flight(id)),
                })
                .collect(),
            federation: submitter.federation.as_ref().map(|federation| FederationStatus {
                threshold: federation.threshold(),
                members: federation.members().len(),
                script_pubkey: federation.script_pubkey().to_hex_string(),
            }),
        }
    }
}

impl LogStatus {
    fn of(delivery: &Delivery) -> Self {
        let buffer = &delivery.buffer;
        Self {
            log_id: buffer.log_id().to_string(),
            epoch: buffer.epoch().0,
            next_seq: buffer.next_seq().0,
            settled_below: buffer.settled_below().0,
        }
    }
}

impl QueueStatus {
    fn of(delivery: &Delivery, now: UnixMillis) -> Self {
        let stat = delivery.buffer.stat();
        let dead = delivery.dead_letters.stat();
        let by_priority = Priority::ALL
            .into_iter()
            .map(|priority| {
                let class = &stat.unsettled[priority.index()];
                (priority.as_str(), ClassStatus { records: class.records, bytes: class.bytes })
            })
            .collect();
        Self {
            unsettled: stat.records(),
            bytes: stat.bytes(),
            by_priority,
            oldest_age_ms: stat.oldest.map(|(_, at)| {
                u64::try_from(now.saturating_since(at).as_millis()).unwrap_or(u64::MAX)
            }),
            dead_letters: dead.count,
            dead_letter_bytes: dead.bytes,
        }
    }
}

impl GapStatus {
    fn of(gap: &RecordGap) -> Self {
        Self {
            segment: gap.segment.to_string(),
            offset: gap.offset,
            bytes: gap.bytes,
            seqs: gap.seqs.as_ref().map(|seqs| [seqs.start().0, seqs.end().0]),
            cause: match gap.cause {
                GapCause::Damaged => "damaged",
                GapCause::Missing => "missing",
            },
            is_known: gap.is_known,
        }
    }
}
