//! How a buffer looks: as lines for a person, as JSON for a program.

use std::ops::RangeInclusive;

use alys_stream_messaging::log::GapCause;
use alys_stream_messaging::tools::{
    Adopted, Corruption, DumpedRecord, Holder, Inspection, Repaired,
};
use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Map, Value, json};

use crate::moment;

/// Everything that was found.
pub(super) fn json(found: &Inspection) -> Value {
    let classes: Map<String, Value> = Priority::ALL
        .into_iter()
        .filter_map(|priority| {
            let class = found.unsettled.get(priority.index())?;
            let value = json!({ "records": class.records, "bytes": class.bytes });
            Some((priority.as_str().to_owned(), value))
        })
        .collect();
    let segments: Vec<Value> = found
        .segments
        .iter()
        .map(|segment| {
            json!({
                "segment": segment.segment.to_string(),
                "path": segment.path.display().to_string(),
                "epoch": segment.epoch.0,
                "file_bytes": segment.file_bytes,
                "used_bytes": segment.used_bytes,
                "records": segment.records,
                "record_bytes": segment.record_bytes,
                "seqs": pair(segment.seqs.as_ref()),
            })
        })
        .collect();
    json!({
        "dir": found.dir.display().to_string(),
        "sound": found.is_sound(),
        "in_use": found.holder != Holder::Nobody,
        "log_id": found.log_id.to_string(),
        "epoch": found.epoch.0,
        "identity_readable": found.is_identity_readable,
        "next_seq": found.next_seq.0,
        "settled_below": found.settled_below.0,
        "records": found.records,
        "entries": found.entries,
        "unsettled": {
            "records": found.unsettled_records(),
            "bytes": found.unsettled_bytes(),
            "by_priority": classes,
        },
        "oldest": found.oldest.map(|(seq, at)| json!({
            "seq": seq.0, "accepted_at": moment::utc(at), "accepted_at_ms": at.0,
        })),
        "file_bytes": found.file_bytes(),
        "segments": segments,
        "quarantined": { "files": found.quarantined_files, "bytes": found.quarantined_bytes },
        "torn_tail": found.torn_tail.map(|tail| json!({
            "segment": tail.segment.to_string(), "offset": tail.offset,
        })),
        "corruption": found.corruption.iter().map(corruption_json).collect::<Vec<_>>(),
        "lost": found.lost.ranges().map(|range| pair(Some(&range))).collect::<Vec<_>>(),
        "lost_messages": found.lost.count(),
    })
}

fn corruption_json(corruption: &Corruption) -> Value {
    json!({
        "cause": cause(corruption.cause),
        "segment": corruption.segment.map(|segment| segment.to_string()),
        "path": corruption.path.as_ref().map(|path| path.display().to_string()),
        "offset": corruption.offset,
        "bytes": corruption.bytes,
        "seqs": pair(corruption.seqs.as_ref()),
        "unsettled": pair(corruption.unsettled.as_ref()),
        "is_known": corruption.is_known,
    })
}

fn pair(seqs: Option<&RangeInclusive<Seq>>) -> Option<[u64; 2]> {
    seqs.map(|seqs| [seqs.start().0, seqs.end().0])
}

const fn cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Damaged => "damaged",
        GapCause::Missing => "missing",
    }
}

/// Everything that was found, for a person.
pub(super) fn page(found: &Inspection) -> String {
    let mut lines = vec![
        found.dir.display().to_string(),
        format!("log: {} epoch {}", found.log_id, found.epoch.0),
        format!("next seq: {}, settled below {}", found.next_seq, found.settled_below),
        format!(
            "unsettled: {} messages, {} bytes",
            found.unsettled_records(),
            found.unsettled_bytes()
        ),
    ];
    for priority in Priority::ALL {
        if let Some(class) = found.unsettled.get(priority.index()).filter(|it| it.records > 0) {
            lines.push(format!("  {priority}: {} messages, {} bytes", class.records, class.bytes));
        }
    }
    if let Some((seq, at)) = found.oldest {
        lines.push(format!("oldest: seq {seq}, accepted {}", moment::utc(at)));
    }
    if found.quarantined_files > 0 {
        lines.push(format!(
            "quarantined: {} files, {} bytes",
            found.quarantined_files, found.quarantined_bytes
        ));
    }
    if let Some(tail) = found.torn_tail {
        lines.push(format!(
            "torn tail: segment {} offset {} (an unfinished write of a crash, or damage to the newest records; the next start cuts it off)",
            tail.segment, tail.offset
        ));
    }
    lines.push(format!("{}", segments(found)));
    lines.extend(found.corruption.iter().map(corruption));
    lines.push(if found.is_sound() { sound(found) } else { unsound(found) });
    lines.join("\n")
}

fn segments(found: &Inspection) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_header(["segment", "epoch", "used", "of", "records", "seqs"]);
    for segment in &found.segments {
        table.add_row([
            segment.segment.to_string(),
            segment.epoch.0.to_string(),
            segment.used_bytes.to_string(),
            segment.file_bytes.to_string(),
            segment.records.to_string(),
            segment.seqs.as_ref().map_or_else(|| "-".to_owned(), range),
        ]);
    }
    table
}

/// One damaged stretch in a line.
pub(super) fn corruption(corruption: &Corruption) -> String {
    let place = corruption.segment.map_or_else(
        || "a segment file is missing".to_owned(),
        |segment| {
            let bytes = corruption.bytes;
            format!(
                "segment {segment} offset {}: {bytes} bytes {}",
                corruption.offset,
                cause(corruption.cause)
            )
        },
    );
    let seqs = corruption
        .seqs
        .as_ref()
        .map_or_else(|| ", no messages in it".to_owned(), |seqs| format!(", seq {}", range(seqs)));
    let lost = match &corruption.unsettled {
        Some(unsettled) => format!(", lost and unsettled: {}", range(unsettled)),
        None => ", nothing unsettled is lost".to_owned(),
    };
    let known = if corruption.is_known { " (reported before)" } else { "" };
    format!("{place}{seqs}{lost}{known}")
}

fn range(seqs: &RangeInclusive<Seq>) -> String {
    if seqs.start() == seqs.end() {
        seqs.start().to_string()
    } else {
        format!("{} to {}", seqs.start(), seqs.end())
    }
}

/// Nothing is wrong.
pub(super) fn sound(found: &Inspection) -> String {
    let tail = found.torn_tail.map_or_else(String::new, |tail| {
        format!(
            "; cut off at the end of segment {} from offset {}: an unfinished write of a crash, or \
             damage to the newest records",
            tail.segment, tail.offset
        )
    });
    format!(
        "sound: {} records in {} segments, {} unsettled{tail}",
        found.records,
        found.segments.len(),
        found.unsettled_records()
    )
}

/// Most places of damage that one line names.
const PLACES_MAX: usize = 4;

/// Something is wrong, and what is to be done.
pub(super) fn unsound(found: &Inspection) -> String {
    let identity = if found.is_identity_readable { "" } else { ", its identity is unreadable" };
    format!(
        "{}: damaged in {} places ({}){identity}; {} unsettled messages are lost, {} records are \
         readable (a node starts on it and reports the gap; `buffer repair` copies the rest)",
        found.dir.display(),
        found.corruption.len(),
        places(found.corruption.iter()),
        found.lost.count(),
        found.records
    )
}

/// There is damage that no start has reported, and what is to be done before anything is changed.
pub(super) fn unreported(found: &Inspection) -> String {
    let dir = found.dir.display();
    format!(
        "{dir}: damaged in {} places that no start of the node has reported ({}): nothing was \
         changed (`alys-stream buffer verify {dir}` shows it; start the node, which reports it, or \
         repair the buffer: `alys-stream buffer repair {dir}`)",
        found.unreported().count(),
        places(found.unreported())
    )
}

/// The first of them.
fn places<'a>(corruption: impl Iterator<Item = &'a Corruption>) -> String {
    let place = |corruption: &Corruption| {
        let segment = corruption.segment.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let seqs = corruption.seqs.as_ref().map_or_else(|| "none".to_owned(), range);
        format!("segment {segment} offset {} seq {seqs}", corruption.offset)
    };
    corruption.take(PLACES_MAX).map(place).collect::<Vec<_>>().join("; ")
}

/// One record, for a program.
pub(super) fn record(record: &DumpedRecord, with_payload: bool) -> Value {
    let message = &record.message;
    let key = message.ordering_key.as_ref().map(|key| hex::encode(key.as_bytes()));
    let mut value = json!({
        "seq": record.seq.0,
        "segment": record.segment.to_string(),
        "offset": record.offset,
        "stored_bytes": record.stored_bytes,
        "message_id": message.id.to_string(),
        "kind": message.kind.0,
        "kind_name": message.kind.as_str(),
        "priority": message.priority.as_str(),
        "settled": record.is_settled,
        "accepted_at": moment::utc(record.accepted_at),
        "accepted_at_ms": record.accepted_at.0,
        "deadline_ms": message.deadline.map(|UnixMillis(at)| at),
        "ordering_key": key,
        "traceparent": message.traceparent,
        "payload_bytes": message.payload.len(),
    });
    if with_payload {
        value["payload"] = hex::encode(&message.payload).into();
    }
    value
}

/// What an adoption did, for a program.
pub(super) fn adopted(adopted: &Adopted) -> Value {
    json!({
        "former_log_id": adopted.former.to_string(),
        "log_id": adopted.log_id.to_string(),
        "epoch": adopted.epoch.0,
        "unsettled": adopted.unsettled,
        "next_seq": adopted.next_seq.0,
    })
}

/// What a repair did, for a program.
pub(super) fn repaired(repaired: &Repaired, dir: &str, kept: Option<&str>) -> Value {
    json!({
        "dir": dir,
        "damaged_kept_as": kept,
        "records": repaired.records,
        "unsettled": repaired.unsettled,
        "lost_messages": repaired.lost.count(),
        "lost": repaired.lost.ranges().map(|range| pair(Some(&range))).collect::<Vec<_>>(),
        "corruption": repaired.from.corruption.iter().map(corruption_json).collect::<Vec<_>>(),
    })
}
