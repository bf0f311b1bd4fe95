//! How the sections of `messaging` are shown in `/config`: in the words that configure them.
//!
//! The structs are taken apart field by field, so that a new key cannot be forgotten here.

use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::dead_letter::DeadLetterConfig;
use alys_stream_messaging::log::OnCorruption;
use alys_stream_messaging::router::{Durability, KindConfig, Policy, RouterConfig};
use alys_stream_protocol::message::Priority;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

pub(super) fn buffer<S: Serializer>(config: &BufferConfig, to: S) -> Result<S::Ok, S::Error> {
    let BufferConfig {
        segment_bytes,
        quota_bytes,
        quota_low_bytes: _,
        quota_normal_bytes: _,
        quota_high_bytes: _,
        when_full,
        payload_cache_bytes,
        index_cache_bytes,
        settled_ids_max,
        id_group_messages,
        pending_bytes_max,
        reserve_bytes,
        on_corruption,
    } = *config;
    json!({
        "segment_bytes": segment_bytes,
        "quota_bytes": quota_bytes,
        "quota_low_bytes": config.quota_bytes_of(Priority::Low),
        "quota_normal_bytes": config.quota_bytes_of(Priority::Normal),
        "quota_high_bytes": config.quota_bytes_of(Priority::High),
        "when_full": when_full.as_str(),
        "payload_cache_bytes": payload_cache_bytes,
        "index_cache_bytes": index_cache_bytes,
        "settled_ids_max": settled_ids_max,
        "id_group_messages": id_group_messages,
        "pending_bytes_max": pending_bytes_max,
        "reserve_bytes": reserve_bytes,
        "on_corruption": word(on_corruption),
    })
    .serialize(to)
}

pub(super) fn dead_letters<S: Serializer>(
    config: &DeadLetterConfig,
    to: S,
) -> Result<S::Ok, S::Error> {
    let DeadLetterConfig { segment_bytes, bytes_max, age_max, on_corruption } = *config;
    json!({
        "segment_bytes": segment_bytes,
        "bytes_max": bytes_max,
        "age_max": humantime_serde::Serde::from(age_max),
        "on_corruption": word(on_corruption),
    })
    .serialize(to)
}

const fn word(on_corruption: OnCorruption) -> &'static str {
    match on_corruption {
        OnCorruption::Quarantine => "quarantine",
        OnCorruption::Halt => "halt",
    }
}

pub(super) fn router<S: Serializer>(config: &RouterConfig, to: S) -> Result<S::Ok, S::Error> {
    let RouterConfig { kinds } = config;
    let kinds: serde_json::Map<_, _> =
        kinds.iter().map(|(name, config)| (name.clone(), kind(config))).collect();
    json!({ "kinds": kinds }).serialize(to)
}

/// Only what is overridden: the rest is the default of the kind.
fn kind(config: &KindConfig) -> Value {
    let KindConfig { policy, priority, durability, deadline } = *config;
    let policy = policy.map(|policy| match policy {
        Policy::Any => json!("any"),
        Policy::Quorum(count) => json!({ "quorum": count }),
        Policy::All => json!("all"),
    });
    let durability = durability.map(|durability| match durability {
        Durability::Fsync => "fsync",
        Durability::Os => "os",
        Durability::Memory => "memory",
    });
    let overrides = [
        ("policy", policy),
        ("priority", priority.map(|priority| json!(priority.as_str()))),
        ("durability", durability.map(|durability| json!(durability))),
        ("deadline", deadline.map(|deadline| json!(humantime_serde::Serde::from(deadline)))),
    ];
    let set = overrides.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(set.collect())
}
