//! How everything is, as `/status` and `alys-stream status` show it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::buffer::RecordGap;
use alys_stream_messaging::log::GapCause;
use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::balance::{EndpointView, Policy};
use alys_stream_transport::grpc::EndpointStatus;
use alys_stream_transport::tls::ReloadStatus;
use serde::Serialize;

use crate::delivery::{Counts, Delivery, LaneName, OutboxFill, StoreGap};
use crate::failure::{Facts, Mode, ModeReport};
use crate::handle::Seen;
use crate::links::Links;
use crate::stream_actor::Phase;
use crate::supervision::ActorStatus;

mod failed;
mod governed;

pub use failed::{FailureStatus, LastFailure};
pub use governed::{FederationStatus, HaltStatus, ScheduledStatus};

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
    /// What the node can do now.
    pub mode: Mode,
    /// Why, and what still goes on.
    pub mode_reason: String,
    /// Every actor, parents before their children.
    pub tree: Vec<ActorStatus>,
    /// The number line of the buffer.
    pub log: Option<LogStatus>,
    /// What is accepted and unsettled.
    pub queues: Option<QueueStatus>,
    /// What the buffer could not read back when it was opened; the first of them.
    pub gaps: Vec<GapStatus>,
    /// What the stores beside the buffer could not read back when they were opened; the first of
    /// them.
    pub store_gaps: Vec<StoreGapStatus>,
    /// What was counted since the start.
    pub counts: Option<CountsStatus>,
    /// Signature requests that wait for signatures, as far as they were offered to anybody.
    pub signatures_open: usize,
    /// How an endpoint is chosen for messages that any may have.
    pub balance: Option<Policy>,
    /// One entry for each endpoint that is dialled.
    pub endpoints: Vec<LinkStatus>,
    /// How the reload of certificates, pins and revocation lists goes; `None` without TLS.
    pub tls: Option<ReloadStatus>,
    /// The federation in force, and what is to replace it.
    pub federation: Option<FederationStatus>,
    /// What governance pushed and an actor has not dealt with, by lane.
    pub pushed_waiting: BTreeMap<&'static str, usize>,
    /// Messages to each neighbouring actor that it has not answered.
    pub mailboxes: BTreeMap<&'static str, usize>,
    /// What went wrong since the start.
    pub failures: FailureStatus,
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
    /// How much of it is in memory.
    pub memory: MemoryStatus,
    /// Dead letters on disk.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// How near the dead letters are to their bounds.
    pub dead_letter_store: LetterStatus,
}

/// How much of the backlog is in memory message by message. The rest is bits, and is read back from
/// the log when its turn comes.
#[derive(Debug, Serialize)]
pub struct MemoryStatus {
    #[serde(flatten)]
    fill: OutboxFill,
}

/// How near the dead letters are to the bounds beyond which the oldest are dropped for good.
#[derive(Debug, Serialize)]
pub struct LetterStatus {
    /// How many bytes there may be.
    pub bytes_max: u64,
    /// How much of that they take.
    pub fill_percent: u64,
    /// Whether some go soon because there are too many bytes.
    pub is_nearly_full: bool,
    /// How long one is kept; `None` without end.
    pub age_max_ms: Option<u64>,
    /// How long ago the oldest one died.
    pub oldest_age_ms: Option<u64>,
    /// Whether some go soon because they are too old.
    pub is_nearly_too_old: bool,
    /// How many were dropped since the start.
    pub dropped: u64,
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

/// A hole in a store beside the buffer that its opening found (D5).
#[derive(Debug, Serialize)]
pub struct StoreGapStatus {
    /// The store, as its folder in the data directory is called.
    pub store: &'static str,
    /// The segment, as in the name of its file.
    pub segment: String,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// How many entries of the store are lost; 0 when only a summary was hit.
    pub entries_lost: u64,
    /// `damaged` or `missing`.
    pub cause: &'static str,
    /// Whether an earlier start found it too.
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
    /// What the balancer makes of it.
    pub balance: Option<EndpointView>,
}

impl Status {
    pub(crate) fn gather(seen: &Seen<'_>) -> Self {
        let Seen { phase, links, node_id, neighbours, failures, tree, network, now } = *seen;
        if let Phase::Running(delivery) = phase {
            delivery.judge_endpoints();
        }
        let (word, reason, delivery) = match phase {
            Phase::Running(delivery) => ("running", None, Some(delivery)),
            Phase::Restarting => ("restarting", None, None),
            Phase::Failed(reason) => ("failed", Some(reason.clone()), None),
            Phase::Stopped => ("stopped", None, None),
        };
        let ModeReport { mode, reason: mode_reason } = ModeReport::of(&facts(phase, links));
        Self {
            node_id: node_id.to_owned(),
            phase: word,
            reason,
            mode,
            mode_reason,
            tree: tree.statuses(),
            log: delivery.map(|delivery| LogStatus::of(delivery)),
            queues: delivery.map(|delivery| QueueStatus::of(delivery, now)),
            gaps: delivery.map_or_else(Vec::new, |delivery| {
                delivery.gaps.iter().take(GAPS_MAX).map(GapStatus::of).collect()
            }),
            store_gaps: delivery.map_or_else(Vec::new, |delivery| {
                delivery.store_gaps.iter().take(GAPS_MAX).map(StoreGapStatus::of).collect()
            }),
            counts: delivery.map(|delivery| CountsStatus(delivery.counts())),
            signatures_open: delivery.map_or(0, |delivery| delivery.signatures_open()),
            balance: delivery.map(|delivery| delivery.balancer.policy()),
            endpoints: links
                .statuses()
                .into_iter()
                .map(|(id, connection)| LinkStatus::of(delivery, id, connection))
                .collect(),
            tls: links.tls_status(),
            federation: delivery
                .and_then(|delivery| delivery.duties.federation.as_ref())
                .map(|driver| FederationStatus::of(driver, network)),
            pushed_waiting: delivery.map_or_else(BTreeMap::new, |delivery| {
                let waiting = |lane: LaneName| (lane.as_str(), delivery.duties.waiting(lane));
                LaneName::ALL.into_iter().map(waiting).collect()
            }),
            mailboxes: neighbours.in_flight().into_iter().collect(),
            failures: FailureStatus::of(failures),
        }
    }
}

/// What is observed of everything that a mode depends on.
pub(crate) fn facts(phase: &Phase, links: &Links) -> Facts {
    match phase {
        Phase::Running(delivery) => delivery.facts(links),
        Phase::Restarting => {
            let (endpoints_live, endpoints_enabled) = (0, links.enabled().count());
            let is_restarting = true;
            Facts { is_restarting, endpoints_live, endpoints_enabled, ..Facts::default() }
        }
        Phase::Failed(reason) => Facts { stopped: Some(reason.clone()), ..Facts::default() },
        Phase::Stopped => {
            Facts { stopped: Some("it was told to stop".to_owned()), ..Facts::default() }
        }
    }
}

impl LinkStatus {
    fn of(delivery: Option<&Arc<Delivery>>, id: EndpointId, connection: EndpointStatus) -> Self {
        let balance = delivery.and_then(|delivery| delivery.balancer.view(id));
        Self {
            connection: connection.with_balance(balance.as_ref()),
            queued: delivery.map_or(0, |delivery| delivery.queued(id)),
            unacknowledged: delivery.map_or(0, |delivery| delivery.in_flight(id)),
            balance,
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
            oldest_age_ms: stat.oldest.map(|(_, at)| millis(now.saturating_since(at))),
            memory: MemoryStatus { fill: delivery.outbox_fill() },
            dead_letters: dead.count,
            dead_letter_bytes: dead.bytes,
            dead_letter_store: LetterStatus::of(delivery, now),
        }
    }
}

impl LetterStatus {
    fn of(delivery: &Delivery, now: UnixMillis) -> Self {
        let fill = delivery.letters_fill(now);
        let percent = u128::from(fill.bytes) * 100 / u128::from(fill.bytes_max.max(1));
        Self {
            bytes_max: fill.bytes_max,
            fill_percent: u64::try_from(percent).unwrap_or(u64::MAX),
            is_nearly_full: fill.is_nearly_full,
            age_max_ms: delivery.letters_age_max.map(millis),
            oldest_age_ms: fill.oldest_age.map(millis),
            is_nearly_too_old: fill.is_nearly_too_old,
            dropped: delivery.dead_letters.stat().dropped,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl GapStatus {
    fn of(gap: &RecordGap) -> Self {
        Self {
            segment: gap.segment.to_string(),
            offset: gap.offset,
            bytes: gap.bytes,
            seqs: gap.seqs.as_ref().map(|seqs| [seqs.start().0, seqs.end().0]),
            cause: cause(gap.cause),
            is_known: gap.is_known,
        }
    }
}

impl StoreGapStatus {
    fn of(found: &StoreGap) -> Self {
        let StoreGap { store, gap } = found;
        let entries_lost =
            gap.positions.map_or(0, |(first, last)| last.0.saturating_sub(first.0) + 1);
        Self {
            store,
            segment: gap.segment.to_string(),
            offset: gap.offset,
            bytes: gap.bytes,
            entries_lost,
            cause: cause(gap.cause),
            is_known: gap.is_known,
        }
    }
}

const fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Damaged => "damaged",
        GapCause::Missing => "missing",
    }
}
