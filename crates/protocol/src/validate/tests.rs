//! Every check of every kind: what passes, and the words for what does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::governance::*;
use values::*;

mod values;

#[test]
fn every_kind_passes_both_ways() {
    use stream_request::Payload as Out;
    use stream_response::Payload as In;
    for (payload, kind) in [
        (Out::NodeRegistration(registration()), MessageKind::NODE_REGISTRATION),
        (Out::SignatureRequest(signing()), MessageKind::SIGNATURE_REQUEST),
        (Out::PeginNotification(pegin()), MessageKind::PEGIN_NOTIFICATION),
        (Out::StatusUpdate(status()), MessageKind::STATUS_UPDATE),
        (Out::Heartbeat(Heartbeat::default()), MessageKind::HEARTBEAT),
    ] {
        let message = StreamRequest { metadata: Some(metadata()), payload: Some(payload) };
        assert_eq!(request(&message), Ok(kind));
        assert_eq!(message.kind(), Some(kind));
    }
    for (payload, kind) in [
        (None, MessageKind::ACKNOWLEDGEMENT),
        (Some(In::RegistrationAck(NodeRegistrationAck::default())), MessageKind::REGISTRATION_ACK),
        (Some(In::SignatureResponse(signed())), MessageKind::SIGNATURE_RESPONSE),
        (Some(In::FederationUpdate(update())), MessageKind::FEDERATION_UPDATE),
        (Some(In::ProposalNotification(proposal())), MessageKind::PROPOSAL_NOTIFICATION),
        (Some(In::ErrorResponse(error())), MessageKind::ERROR_RESPONSE),
        (Some(In::HeartbeatAck(HeartbeatAck::default())), MessageKind::HEARTBEAT_ACK),
    ] {
        let message = StreamResponse { metadata: Some(answer()), payload };
        assert_eq!(response(&message), Ok(kind));
    }
}

#[test]
fn the_path_starts_with_the_payload() {
    let mut spoiled = signing();
    spoiled.amounts[2] = u64::MAX;
    let message = StreamRequest {
        metadata: Some(metadata()),
        payload: Some(stream_request::Payload::SignatureRequest(spoiled)),
    };
    let invalid = request(&message).unwrap_err();
    assert_eq!(invalid.field, "signature_request.amounts[2]");
    assert_eq!(
        invalid.problem,
        Problem::OutOfRange {
            value: i128::from(u64::MAX),
            min: 0,
            max: i128::from(limits::SATOSHIS_MAX)
        }
    );
    let mut spoiled = update();
    spoiled.members[0].public_key = Bytes::new();
    let message = StreamResponse {
        metadata: None,
        payload: Some(stream_response::Payload::FederationUpdate(spoiled)),
    };
    assert_eq!(response(&message).unwrap_err().field, "federation_update.members[0].public_key");
}

#[test]
fn envelopes() {
    let out = |message: &StreamRequest| request(message).map(drop);
    let whole = StreamRequest {
        metadata: Some(metadata()),
        payload: Some(stream_request::Payload::Heartbeat(Heartbeat::default())),
    };
    expect(out, &whole, |m| m.metadata = None, "metadata: is missing");
    expect(out, &whole, |m| m.payload = None, "payload: is missing");
    let spoil = |m: &mut StreamRequest| m.metadata.as_mut().unwrap().request_id.clear();
    expect(out, &whole, spoil, "metadata.request_id: is missing");

    let back = |message: &StreamResponse| response(message).map(drop);
    let ack = StreamResponse { metadata: Some(answer()), payload: None };
    expect(back, &ack, |_| (), "");
    expect(back, &ack, |m| m.metadata = None, "metadata: is missing");
    let spoil = |m: &mut StreamResponse| m.metadata.as_mut().unwrap().request_id.clear();
    expect(back, &ack, spoil, "metadata.request_id: is missing");
    let spoil = |m: &mut StreamResponse| m.metadata.as_mut().unwrap().status = 0;
    expect(back, &ack, spoil, "metadata.status: is an unspecified status code");
    let spoil = |m: &mut StreamResponse| m.metadata.as_mut().unwrap().status = 7;
    expect(back, &ack, spoil, "metadata.status: 7 is not a known status code");
    let signed = StreamResponse {
        payload: Some(stream_response::Payload::SignatureResponse(signed())),
        ..ack
    };
    let spoil = |m: &mut StreamResponse| m.metadata.as_mut().unwrap().request_id.clear();
    expect(back, &signed, spoil, "metadata.request_id: is missing");
    // A push answers nothing.
    let push = StreamResponse {
        payload: Some(stream_response::Payload::ProposalNotification(proposal())),
        metadata: None,
    };
    expect(back, &push, |_| (), "");
}

#[test]
fn metadata_fields() {
    let (check, good) = (request_metadata, metadata());
    expect(check, &good, |m| m.timestamp = -1, &out_of_range("timestamp", -1, 0, i64::MAX));
    expect(check, &good, |m| m.priority = 0, "");
    expect(check, &good, |m| m.priority = 5, "priority: 5 is not a known priority");
    expect(check, &good, |m| m.priority = -3, "priority: -3 is not a known priority");
    expect(check, &good, |m| m.timeout = None, "");
    expect(check, &good, |m| m.timeout = Some(0), &out_of_range("timeout", 0, 1, i32::MAX.into()));
    expect(check, &good, |m| m.node_id = "a\nb".into(), "node_id: contains control characters");
    let long = |m: &mut RequestMetadata| m.node_id = "n".repeat(129);
    expect(check, &good, long, "node_id: has 129 bytes (at most 128)");
    let long = |m: &mut ResponseMetadata| m.message = Some("m".repeat(4097));
    expect(response_metadata, &answer(), long, "message: has 4097 bytes (at most 4096)");
}

fn out_of_range(field: &str, value: i64, min: i64, max: i64) -> String {
    format!("{field}: {value} is out of range (expected {min} to {max})")
}

#[test]
fn registrations() {
    let (check, good) = (node_registration, registration());
    expect(check, &good, |_| (), "");
    expect(check, &good, |r| r.auth = None, "");
    expect(check, &good, |r| r.node_info = None, "node_info: is missing");
    let spoil = |r: &mut NodeRegistration| r.node_info.as_mut().unwrap().node_type = 0;
    expect(check, &good, spoil, "node_info.node_type: is an unspecified node type");
    let spoil = |r: &mut NodeRegistration| r.node_info.as_mut().unwrap().public_key = "xy".into();
    expect(check, &good, spoil, "node_info.public_key: is not hexadecimal");
    let spoil = |r: &mut NodeRegistration| r.node_info.as_mut().unwrap().public_key = "ab".into();
    let expected = "node_info.public_key: has 2 hexadecimal digits (expected 64, 66 or 130)";
    expect(check, &good, spoil, expected);
    expect(check, &good, |r| r.capabilities[0].clear(), "capabilities[0]: is missing");
    let spoil = |r: &mut NodeRegistration| r.capabilities = vec!["c".into(); 257];
    expect(check, &good, spoil, "capabilities: has 257 entries (at most 256)");
    expect(check, &good, |r| r.endpoints[0].url.clear(), "endpoints[0].url: is missing");
    let spoil = |r: &mut NodeRegistration| r.endpoints[0].endpoint_type = 4;
    expect(check, &good, spoil, "endpoints[0].endpoint_type: 4 is not a known endpoint type");
    let spoil = |r: &mut NodeRegistration| r.auth.as_mut().unwrap().auth_type = 0;
    expect(check, &good, spoil, "auth.auth_type: is an unspecified authentication type");
    let spoil = |r: &mut NodeRegistration| r.auth.as_mut().unwrap().credential_data = Bytes::new();
    expect(check, &good, spoil, "auth.credential_data: is missing");
    let mutual = |r: &mut NodeRegistration| {
        let auth = AuthCredentials { auth_type: 2, ..AuthCredentials::default() };
        r.auth = Some(auth);
    };
    expect(check, &good, mutual, "");
}

#[test]
fn signature_requests() {
    let (check, good) = (signature_request, signing());
    expect(check, &good, |_| (), "");
    expect(check, &good, |r| r.tx_hex.clear(), "tx_hex: is missing");
    expect(check, &good, |r| r.tx_hex.push('g'), "tx_hex: is not hexadecimal");
    let odd = "tx_hex: has 5 hexadecimal digits (expected an even number)";
    expect(check, &good, |r| r.tx_hex.push('0'), odd);
    let long = |r: &mut SignatureRequest| r.tx_hex = "0".repeat(800_002);
    expect(check, &good, long, "tx_hex: has 800002 bytes (at most 800000)");
    expect(check, &good, |r| r.input_indices.clear(), "input_indices: is missing");
    expect(check, &good, |r| r.input_indices[2] = 0, "input_indices[2]: repeats entry 0");
    let many = |r: &mut SignatureRequest| r.input_indices = (0..1025).collect();
    expect(check, &good, many, "input_indices: has 1025 entries (at most 1024)");
    let few = "amounts: has 2 entries (expected 3, one for each of input_indices)";
    expect(check, &good, |r| r.amounts.truncate(2), few);
    expect(check, &good, |r| r.amounts[0] = limits::SATOSHIS_MAX, "");
    expect(check, &good, |r| r.tx_type = 0, "tx_type: is an unspecified transaction type");
    expect(check, &good, |r| r.tx_type = 9, "tx_type: 9 is not a known transaction type");
    let none = out_of_range("required_signatures", 0, 1, 20);
    expect(check, &good, |r| r.required_signatures = 0, &none);
    expect(check, &good, |r| r.timeout_seconds = None, "");
    let past = out_of_range("timeout_seconds", -1, 1, i32::MAX.into());
    expect(check, &good, |r| r.timeout_seconds = Some(-1), &past);
}

#[test]
fn pegins() {
    let (check, good) = (pegin_notification, pegin());
    expect(check, &good, |_| (), "");
    expect(check, &good, |p| p.btc_txid.clear(), "btc_txid: is missing");
    expect(check, &good, |p| p.btc_txid.make_ascii_uppercase(), "");
    let short = "btc_txid: has 63 hexadecimal digits (expected 64)";
    expect(check, &good, |p| p.btc_txid.truncate(63), short);
    expect(check, &good, |p| p.btc_txid = "é".repeat(32), "btc_txid: is not hexadecimal");
    let all = i64::try_from(limits::SATOSHIS_MAX).unwrap();
    expect(check, &good, |p| p.amount = 0, &out_of_range("amount", 0, 1, all));
    expect(check, &good, |p| p.amount = limits::SATOSHIS_MAX, "");
    let beyond = out_of_range("amount", all + 1, 1, all);
    expect(check, &good, |p| p.amount = limits::SATOSHIS_MAX + 1, &beyond);
    expect(check, &good, |p| p.evm_address = "ab".repeat(20), "");
    expect(check, &good, |p| p.evm_address = "0x".into(), "evm_address: is missing");
    let short = "evm_address: has 38 hexadecimal digits (expected 40)";
    expect(check, &good, |p| p.evm_address = "ab".repeat(19), short);
    let twice = |p: &mut PeginNotification| p.evm_address = format!("0x0x{}", "ab".repeat(19));
    expect(check, &good, twice, "evm_address: is not hexadecimal");
    let large = |p: &mut PeginNotification| p.extra_data = Some(vec![0; 65537].into());
    expect(check, &good, large, "extra_data: has 65537 bytes (at most 65536)");
}

#[test]
fn status_updates_and_heartbeats() {
    let (check, good) = (status_update, status());
    expect(check, &good, |_| (), "");
    expect(check, &good, |s| s.metrics = None, "");
    expect(check, &good, |s| s.sync_status = 0, "");
    expect(check, &good, |s| s.status = 0, "status: is an unspecified node status");
    expect(check, &good, |s| s.status = 6, "status: 6 is not a known node status");
    expect(check, &good, |s| s.sync_status = 5, "sync_status: 5 is not a known sync status");
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
        (-0.5, "-0.5"),
        (100.5, "100.5"),
    ] {
        let spoil = |s: &mut StatusUpdate| s.metrics.as_mut().unwrap().cpu_usage = value;
        let expected =
            format!("metrics.cpu_usage: {shown} is not a measurement (expected 0 to 100)");
        expect(check, &good, spoil, &expected);
    }
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let mut spoiled = good;
        spoiled.metrics.as_mut().unwrap().avg_latency_ms = value;
        assert_eq!(check(&spoiled).unwrap_err().field, "metrics.avg_latency_ms");
    }
    let beat = Heartbeat { timestamp: 1, sequence: 1, health: 1 };
    expect(heartbeat, &beat, |h| h.health = 0, "");
    expect(heartbeat, &beat, |h| h.health = 5, "health: 5 is not a known health status");
    let early = out_of_range("timestamp", -1, 0, i64::MAX);
    expect(heartbeat, &beat, |h| h.timestamp = -1, &early);
    let early = out_of_range("ack_timestamp", i64::MIN, 0, i64::MAX);
    expect(heartbeat_ack, &HeartbeatAck::default(), |h| h.ack_timestamp = i64::MIN, &early);
}

#[test]
fn signature_responses() {
    let (check, good) = (signature_response, signed());
    for status in 1..=5 {
        expect(check, &good, |s| s.status = status, "");
    }
    expect(check, &good, |s| s.status = 0, "status: is an unspecified signature status");
    expect(check, &good, |s| s.status = 6, "status: 6 is not a known signature status");
    let none = "signatures[0].signature: is missing";
    expect(check, &good, |s| s.signatures[0].signature = Bytes::new(), none);
    let long = |s: &mut SignatureResponse| s.signatures[0].signature = vec![0; 129].into();
    expect(check, &good, long, "signatures[0].signature: has 129 bytes (at most 128)");
    let kind = "signatures[0].sig_type: is an unspecified signature type";
    expect(check, &good, |s| s.signatures[0].sig_type = 0, kind);
    let anonymous = "partial_signatures[0].signer_id: is missing";
    expect(check, &good, |s| s.partial_signatures[0].signer_id.clear(), anonymous);
    let state = "partial_signatures[0].status: 8 is not a known signature status";
    expect(check, &good, |s| s.partial_signatures[0].status = 8, state);
    let long = |s: &mut SignatureResponse| s.failure_reason = Some("r".repeat(4097));
    expect(check, &good, long, "failure_reason: has 4097 bytes (at most 4096)");
    let crowd = |s: &mut SignatureResponse| s.signatures = vec![s.signatures[0].clone(); 20481];
    expect(check, &good, crowd, "signatures: has 20481 entries (at most 20480)");
}

#[test]
fn federation_updates() {
    let (check, good) = (federation_update, update());
    expect(check, &good, |_| (), "");
    let kind = "update_type: is an unspecified federation update type";
    expect(check, &good, |u| u.update_type = 0, kind);
    let kind = "update_type: 5 is not a known federation update type";
    expect(check, &good, |u| u.update_type = 5, kind);
    expect(check, &good, |u| u.update_signature = Bytes::new(), "update_signature: is missing");
    expect(check, &good, |u| u.members.clear(), "members: is missing");
    let many = |u: &mut FederationUpdate| u.members = vec![u.members[0].clone(); 21];
    expect(check, &good, many, "members: has 21 entries (at most 20)");
}

#[test]
fn federation_members_and_configuration() {
    let (check, good) = (federation_update, update());
    let twice = |u: &mut FederationUpdate| u.members = vec![u.members[0].clone(); 2];
    expect(check, &good, twice, "members[1]: repeats entry 0");
    let key = "members[0].public_key: is not a compressed public key of 33 bytes";
    expect(check, &good, |u| u.members[0].public_key = Bytes::from_static(&[2; 32]), key);
    expect(check, &good, |u| u.members[0].public_key = Bytes::from_static(&[0; 33]), key);
    expect(check, &good, |u| u.members[0].weight = 0, "members[0].weight: is missing");
    let retired = |u: &mut FederationUpdate| {
        u.members[0].weight = 0;
        u.members[0].active = false;
    };
    expect(check, &good, retired, "");
    expect(check, &good, |u| u.config = None, "config: is missing");
    let spoil = |u: &mut FederationUpdate| u.config.as_mut().unwrap().signature_threshold = 0;
    expect(check, &good, spoil, "config.signature_threshold: is missing");
    let spoil = |u: &mut FederationUpdate| u.config.as_mut().unwrap().parameters.clear();
    expect(check, &good, spoil, "config.parameters[\"version\"]: is missing");
    let spoil = |u: &mut FederationUpdate| {
        let parameters = &mut u.config.as_mut().unwrap().parameters;
        drop(parameters.insert("version".into(), "+1".into()));
    };
    expect(check, &good, spoil, "config.parameters[\"version\"]: is not a decimal number");
    // A halt is short.
    let halt = FederationUpdate {
        update_type: FederationUpdateType::EmergencyHalt.into(),
        update_signature: Bytes::from_static(&[1]),
        ..FederationUpdate::default()
    };
    expect(check, &halt, |_| (), "");
    expect(check, &halt, |u| u.update_signature = Bytes::new(), "update_signature: is missing");
}

#[test]
fn proposals_and_errors() {
    let (check, good) = (proposal_notification, proposal());
    expect(check, &good, |p| p.proposal_id.clear(), "proposal_id: is missing");
    expect(check, &good, |p| p.proposal_type = 0, "proposal_type: is an unspecified proposal type");
    let large = |p: &mut ProposalNotification| p.proposal_data = vec![0; 1_048_577].into();
    expect(check, &good, large, "proposal_data: has 1048577 bytes (at most 1048576)");
    let early = out_of_range("voting_deadline", -1, 0, i64::MAX);
    expect(check, &good, |p| p.voting_deadline = -1, &early);

    let (check, good) = (error_response, error());
    expect(check, &good, |e| e.retry_info = None, "");
    expect(check, &good, |e| e.error_code = 0, "error_code: is an unspecified error code");
    expect(check, &good, |e| e.error_code = 11, "error_code: 11 is not a known error code");
    let spoil = |e: &mut ErrorResponse| e.retry_info.as_mut().unwrap().retry_after = -1;
    let early = out_of_range("retry_info.retry_after", -1, 0, i32::MAX.into());
    expect(check, &good, spoil, &early);
    let spoil = |a: &mut NodeRegistrationAck| a.session_token = Some("t".repeat(16_385));
    let expected = "session_token: has 16385 bytes (at most 16384)";
    expect(registration_ack, &NodeRegistrationAck::default(), spoil, expected);
}

#[test]
fn unary_calls() {
    let health = HealthResponse {
        status: 1,
        version: "1".into(),
        uptime: 5,
        info: BTreeMap::from([("region".into(), "eu".into())]),
    };
    expect(health_response, &health, |_| (), "");
    expect(health_response, &health, |h| h.status = 5, "status: 5 is not a known health status");
    let negative = out_of_range("uptime", -5, 0, i64::MAX);
    expect(health_response, &health, |h| h.uptime = -5, &negative);
    let question = HealthRequest { check_type: Some("deep".into()) };
    expect(health_request, &question, |_| (), "");
    let control = "check_type: contains control characters";
    expect(health_request, &question, |q| q.check_type = Some("\u{7}".into()), control);

    let able = CapabilitiesResponse {
        protocol_versions: vec!["1".into()],
        features: vec!["alys.stream.v1".into()],
        limits: BTreeMap::from([("messages".into(), 5)]),
    };
    expect(capabilities_response, &able, |_| (), "");
    expect(capabilities_response, &able, |a| a.features[0].clear(), "features[0]: is missing");
    let spoil = |a: &mut CapabilitiesResponse| *a.limits.get_mut("messages").unwrap() = -1;
    let negative = out_of_range("limits[\"messages\"]", -1, 0, i32::MAX.into());
    expect(capabilities_response, &able, spoil, &negative);
    let who = CapabilitiesRequest { node_id: "n".repeat(129) };
    expect(capabilities_request, &who, |_| (), "node_id: has 129 bytes (at most 128)");
}

#[test]
fn trace_contexts() {
    assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    for bad in [
        "",
        "garbage",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
    ] {
        assert!(!is_traceparent(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_decodes_is_checked_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = StreamRequest::decode(bytes.as_slice()) {
            drop(request(&message));
        }
        if let Ok(message) = StreamResponse::decode(bytes.as_slice()) {
            drop(response(&message));
        }
        // Random bytes seldom get past the envelope: take them as payloads too.
        if let Ok(payload) = FederationUpdate::decode(bytes.as_slice()) {
            drop(federation_update(&payload));
        }
        if let Ok(payload) = NodeRegistration::decode(bytes.as_slice()) {
            drop(node_registration(&payload));
        }
        if let Ok(payload) = SignatureRequest::decode(bytes.as_slice()) {
            drop(signature_request(&payload));
        }
    }
}
