//! Names, types, labels and buckets are a contract with dashboards: each is written down here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use expect_test::{expect, expect_file};

use super::*;

/// One event of every kind.
fn every_event() -> Metrics {
    let metrics = Metrics::new();
    let m = &metrics;
    let second = Duration::from_secs(1);
    let (stream, kind) = (StreamType::Attestations, "signature_request");
    m.connection_status("gov-1", "node-1", ConnectionStatus::Streaming);
    m.connection_latency("gov-1", second);
    m.buffer_size("gov-1", kind, 7);
    m.reconnect_attempt("gov-1", "lost");
    m.correlation(kind, "gov-1", second);
    m.federation_update("rotation", "verify", second);
    m.messages_sent("gov-1", kind, stream, 128);
    m.messages_received("gov-1", "signature_response", stream, 2);
    m.message_error("gov-1", "refused", kind);
    m.dropped("gov-1", kind, "expired");
    m.endpoint_health("gov-1", 0.75);
    m.stream_quality("gov-1", stream, 0.5);
    m.signature_correlation_rate("gov-1", 1.0);
    m.heartbeat_rtt("gov-1", second);
    m.backpressure("gov-1", "warning");
    m.stream_interruption("gov-1", "reset");
    m.buffer("critical", 3, 768, Some(second));
    m.buffer_disk(1 << 26, 1 << 33);
    m.fsync(Duration::from_micros(140), 500);
    m.accept_seconds(Duration::from_micros(400));
    m.ack_seconds("gov-1", Duration::from_millis(2));
    m.in_flight("gov-1", 128);
    m.credits("gov-1", 896, 8 << 20);
    m.ejected("gov-1", true);
    m.retry("gov-1");
    m.dead_letter("expired");
    m.gap();
    m.corruption();
    m.invalid_signature("gov-1");
    m.actor_restart("stream");
    m.outbox(4096, 3);
    m.loaded(1024);
    m.letters(&LettersFill {
        count: 2,
        bytes: 900,
        bytes_max: 1000,
        oldest_age: Some(second),
        is_nearly_full: true,
        is_nearly_too_old: false,
    });
    m.letters_dropped(LettersBound::Age, 5);
    m.mode(Some("normal"), "halted");
    m.failure("system", "disk_full");
    m.governed(&GovernedGauges { version: 7, scheduled: 1, is_halted: true });
    m.pushed_waiting("halts", 1);
    m.mailbox_depth("chain", 2);
    m.breaker("gov-1", BreakerPosition::Open);
    m.needs_operator("gov-1", true);
    m.peer_certificate("gov-1", 1_900_000_000);
    m.tls(&TlsGauges {
        generation: 3,
        since: 1_700_000_000,
        failures: 2,
        is_stale: true,
        own_expires_at: Some(1_800_000_000),
        authority_expires_at: None,
        revocation_due_at: Some(1_750_000_000),
    });
    m.config(&ConfigGauges { generation: 4, read_at: 1_700_000_001, failures: 5, is_stale: true });
    metrics
}

/// `type name{labels} buckets`, one line per family, sorted.
fn families(text: &str) -> String {
    let mut types = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut buckets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (sample, _) = line.rsplit_once(' ').expect("a value");
            let (name, set) = sample.trim_end_matches('}').split_once('{').unwrap_or((sample, ""));
            let family = types.keys().rfind(|family| name.starts_with(*family)).expect("a family");
            for label in set.split(',').filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once('=').expect("a label");
                if key == "le" {
                    let bound = value.trim_matches('"').to_owned();
                    buckets.entry(family.clone()).or_default().push(bound);
                } else {
                    labels.entry(family.clone()).or_default().insert(key.to_owned());
                }
            }
        }
    }
    types.iter().fold(String::new(), |mut lines, (name, kind)| {
        let suffix = if kind == "counter" { "_total" } else { "" };
        let labels = labels.remove(name).unwrap_or_default();
        let labels = labels.into_iter().collect::<Vec<_>>().join(",");
        let buckets = buckets.remove(name).unwrap_or_default().join(" ");
        writeln!(lines, "{}", format!("{kind} {name}{suffix}{{{labels}}} {buckets}").trim_end())
            .expect("a line");
        lines
    })
}

#[test]
fn names_labels_and_buckets_are_those_of_the_dashboards() {
    expect_file!["testdata/families.txt"].assert_eq(&families(&every_event().encode()));
}

#[test]
fn values_arrive() {
    let text = every_event().encode();
    for line in [
        "alys_governance_connection_status{endpoint=\"gov-1\",node_id=\"node-1\"} 3",
        "alys_governance_messages_sent_total{endpoint=\"gov-1\",\
         message_type=\"signature_request\",stream_type=\"attestations\"} 128",
        "alys_governance_endpoint_health_score{endpoint=\"gov-1\"} 0.75",
        "alys_stream_buffer_oldest_age_seconds{priority=\"critical\"} 1.0",
        "alys_stream_buffer_quota_bytes 8589934592",
        "alys_stream_breaker_state{endpoint=\"gov-1\"} 2",
        "alys_stream_needs_operator{endpoint=\"gov-1\"} 1",
        "alys_stream_peer_certificate_expiry_timestamp_seconds{endpoint=\"gov-1\"} 1900000000",
        "alys_stream_certificate_expiry_timestamp_seconds{certificate=\"own\"} 1800000000",
        "alys_stream_revocation_due_timestamp_seconds 1750000000",
        "alys_stream_tls_generation 3",
        "alys_stream_config_generation 4",
        "alys_stream_config_last_reload_timestamp_seconds 1700000001",
        "alys_stream_config_reload_failures_total 5",
        "alys_stream_config_reload_stale 1",
        "alys_stream_tls_last_reload_timestamp_seconds 1700000000",
        "alys_stream_tls_reload_failures_total 2",
        "alys_stream_tls_reload_stale 1",
        "alys_stream_fsync_seconds_bucket{le=\"0.0001\"} 0",
        "alys_stream_fsync_seconds_bucket{le=\"0.0002\"} 1",
        "alys_stream_records_per_fsync_sum 500.0",
        "alys_stream_gaps_total 1",
        "alys_stream_dead_letters_nearly_full{bound=\"bytes\"} 1",
        "alys_stream_dead_letters_nearly_full{bound=\"age\"} 0",
        "alys_stream_dead_letters_dropped_total{reason=\"age\"} 5",
        "alys_stream_dead_letters_dropped_total{reason=\"bytes\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_fresh_node_shows_what_alerts_need_and_no_invented_endpoint() {
    let text = Metrics::new().encode();
    assert!(text.contains("alys_stream_gaps_total 0"), "{text}");
    assert!(text.contains("alys_stream_corruptions_total 0"), "{text}");
    assert!(text.contains("alys_stream_dead_letters_dropped_total{reason=\"bytes\"} 0"), "{text}");
    assert!(text.contains("alys_stream_dead_letters_nearly_full{bound=\"age\"} 0"), "{text}");
    assert!(text.contains("alys_stream_build_info{version="), "{text}");
    assert!(!text.contains("endpoint="), "{text}");
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    metrics.retry("a\"b\\c\nd");
    let text = metrics.encode();
    assert!(text.contains("alys_stream_retries_total{endpoint=\"a\\\"b\\\\c\\nd\"} 1"), "{text}");
}

#[test]
fn every_kind_has_a_stream_type() {
    let kinds = [
        "node_registration",
        "signature_request",
        "pegin_notification",
        "status_update",
        "heartbeat",
        "acknowledgement",
        "registration_ack",
        "signature_response",
        "federation_update",
        "proposal_notification",
        "error_response",
        "heartbeat_ack",
        "application",
        "unknown",
    ];
    let table = kinds.map(|kind| format!("{kind}: {}\n", StreamType::of(kind).as_str())).concat();
    expect![[r#"
        node_registration: consensus
        signature_request: attestations
        pegin_notification: chain_data
        status_update: chain_data
        heartbeat: consensus
        acknowledgement: consensus
        registration_ack: consensus
        signature_response: attestations
        federation_update: federation
        proposal_notification: proposals
        error_response: consensus
        heartbeat_ack: consensus
        application: chain_data
        unknown: consensus
    "#]]
    .assert_eq(&table);
}
