//! What the `tls` and `transport` sections may say.

use super::*;

#[test]
fn tls_pins_lists_and_reload() {
    check_with(
        "tls: {pins: ['sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=']}\n",
        expect!["ok"],
    );
    check_with(
        "tls: {pins: ['md5/abc']}\n",
        expect![[
            r#"node.yaml:5: tls.pins[0]: "md5/abc" is not a pin; expected sha256/ and 44 letters of base64, the SHA-256 of the public key; correct the value"#
        ]],
    );
    check_with(
        "tls: {crls: {unknown: ask}}\n",
        expect![[
            r#"node.yaml:5: tls.crls.unknown: "ask" is not known here; known values are accept, refuse"#
        ]],
    );
    check_with(
        "tls: {crls: {file: a.pem}}\n",
        expect!["node.yaml:5: tls.crls.file: unknown key; did you mean `files`?"],
    );
    check_with(
        "tls: {reload: {poll: 0s}}\n",
        expect!["node.yaml: tls.reload.poll: is 0ns; use 10ms to 3600s"],
    );
    let files = vec!["a"; 65].join(", ");
    check_with(
        &format!("tls: {{crls: {{files: [{files}]}}}}\n"),
        expect!["node.yaml: tls.crls.files: has 65 entries and may have 64; remove some"],
    );
}

#[test]
fn transport_timers_and_retries() {
    check_with(
        "transport: {compression: off, rotation: {age: 0s}, heartbeat: {interval: 1s}}\n",
        expect!["ok"],
    );
    check_with(
        "transport: {compression: zstd}\n",
        expect![[
            r#"node.yaml:5: transport.compression: "zstd" is not known here; known values are off, auto, always"#
        ]],
    );
    check_with(
        "transport: {heartbeat: {intervel: 1s}}\n",
        expect!["node.yaml:5: transport.heartbeat.intervel: unknown key; did you mean `interval`?"],
    );
    check_with(
        "transport: {heartbeat: {interval: 1ms}}\n",
        expect!["node.yaml: transport.heartbeat.interval: is 1ms; give 100ms to 10m"],
    );
    check_with(
        "transport: {heartbeat: {interval: 15}}\n",
        expect![[
            r#"node.yaml:5: transport.heartbeat.interval: expected a duration such as 30s or 5min, found the text "15"; correct the value"#
        ]],
    );
    check_with(
        "transport: {heartbeat: {missed_max: 1}}\n",
        expect![
            "node.yaml: transport.vitals.missed_critical: is 2, above `heartbeat.missed_max` (1); lower it, or raise the other one"
        ],
    );
    check_with(
        "transport: {backoff: {factor: 0.5}}\n",
        expect!["node.yaml: transport.backoff.factor: is 0.5; give 1 to 10"],
    );
    check_with(
        "transport: {backoff: {jitter: .nan}}\n",
        expect!["node.yaml: transport.backoff.jitter: is NaN; give 0 to 0.9"],
    );
    check_with(
        "transport: {backoff: {first: 5min}}\n",
        expect![
            "node.yaml: transport.backoff.first: is 5m, above `backoff.backoff_max` (2m); lower it, or raise the other one"
        ],
    );
    check_with(
        "transport: {connection: {connect_timeout: 2s}}\n",
        expect![
            "node.yaml: transport.address_timeout: is 5s, above `connection.connect_timeout` (2s); lower it, or raise the other one"
        ],
    );
}

#[test]
fn transport_sessions_and_vitals() {
    check_with(
        "transport: {rotation: {age: 1s}}\n",
        expect!["node.yaml: transport.rotation.age: is 1s; give 10s to 30days"],
    );
    check_with(
        "transport: {acks: {messages: 0}}\n",
        expect!["node.yaml: transport.acks.messages: is 0; give 1 to 4096"],
    );
    check_with(
        "transport: {acks: {timeout: 10s}}\n",
        expect![
            "node.yaml: transport.vitals.ack_age_critical: is 15s, above `acks.timeout` (10s); lower it, or raise the other one"
        ],
    );
    check_with(
        "transport: {keepalive: {interval: 1s}}\n",
        expect!["node.yaml: transport.keepalive.interval: is 1s; give 10s to 2h"],
    );
    check_with(
        "transport: {breaker: {open: 2min}}\n",
        expect![
            "node.yaml: transport.breaker.open: is 2m, above `breaker.open_max` (1m); lower it, or raise the other one"
        ],
    );
    check_with(
        "transport: {dials: {spread: {at_once: 0}}}\n",
        expect!["node.yaml: transport.dials.spread.at_once: is 0; give 1 to 64"],
    );
    check_with(
        "transport: {dials: {budget: {per_second: 0}}}\n",
        expect!["node.yaml: transport.dials.budget.per_second: is 0; give 1 to 1000"],
    );
    check_with(
        "transport: {vitals: {rtt_minor: 20}}\n",
        expect![
            "node.yaml: transport.vitals.rtt_minor: is 20, above `vitals.rtt_critical` (10); lower it, or raise the other one"
        ],
    );
    check_with(
        "transport: {vitals: {error_rate_critical: 2}}\n",
        expect!["node.yaml: transport.vitals.error_rate_critical: is 2; give 0.001 to 1"],
    );
}

#[test]
fn tls_halves() {
    check_with(
        "tls: {certificate: tls.pem}\n",
        expect![
            "node.yaml: tls.key: missing, while there is a `tls.certificate`; name the file with its key, or remove both"
        ],
    );
    check_with(
        "tls: {key: tls-key.pem}\n",
        expect![
            "node.yaml: tls.certificate: missing, while there is a `tls.key`; name the file with its certificate, or remove both"
        ],
    );
}
