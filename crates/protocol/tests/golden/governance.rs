//! All 28 messages of `governance.v1`.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::governance::*;
use bytes::Bytes;
use prost::Message as _;

use crate::cases::{golden, path};

fn request_metadata() -> RequestMetadata {
    RequestMetadata {
        request_id: "req-1".into(),
        timestamp: 1_700_000_000,
        node_id: "alys-1".into(),
        protocol_version: "1.0".into(),
        priority: RequestPriority::Critical.into(),
        timeout: Some(30),
    }
}

fn response_metadata() -> ResponseMetadata {
    ResponseMetadata {
        request_id: "req-1".into(),
        timestamp: 1_700_000_001,
        node_id: "gov-1".into(),
        status: StatusCode::Success.into(),
        message: Some("ok".into()),
    }
}

fn node_info() -> NodeInfo {
    NodeInfo {
        public_key: "02ab".into(),
        node_type: NodeType::Signer.into(),
        version: "0.1.0".into(),
        region: Some("eu".into()),
    }
}

fn network_endpoint() -> NetworkEndpoint {
    NetworkEndpoint {
        url: "https://a:443".into(),
        endpoint_type: EndpointType::Grpc.into(),
        priority: 7,
        enabled: true,
    }
}

fn auth_credentials() -> AuthCredentials {
    AuthCredentials {
        auth_type: AuthType::Signature.into(),
        credential_data: Bytes::from_static(b"secret"),
        expires_at: Some(1_700_000_002),
    }
}

fn node_registration() -> NodeRegistration {
    NodeRegistration {
        node_info: Some(node_info()),
        capabilities: vec!["signing".into(), "stream".into()],
        endpoints: vec![network_endpoint()],
        auth: Some(auth_credentials()),
    }
}

fn node_registration_ack() -> NodeRegistrationAck {
    NodeRegistrationAck {
        accepted: true,
        assigned_node_id: "alys-1".into(),
        session_token: Some("token".into()),
        expires_at: Some(1_700_000_002),
    }
}

fn signature_request() -> SignatureRequest {
    SignatureRequest {
        tx_hex: "00ff".into(),
        input_indices: vec![0, 1, 300],
        amounts: vec![1, 100_000, 2_100_000_000_000_000],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 3,
        timeout_seconds: Some(60),
    }
}

fn witness_data() -> WitnessData {
    WitnessData {
        signature: Bytes::from_static(&[0x30, 6]),
        public_key: Bytes::from_static(&[2, 3]),
        sig_type: SignatureType::Schnorr.into(),
    }
}

fn partial_signature() -> PartialSignature {
    PartialSignature {
        signer_id: "member-1".into(),
        signature: Bytes::from_static(&[1, 2, 3]),
        status: SignatureStatus::Partial.into(),
    }
}

fn signature_response() -> SignatureResponse {
    SignatureResponse {
        status: SignatureStatus::Complete.into(),
        signatures: vec![witness_data()],
        failure_reason: Some("none".into()),
        partial_signatures: vec![partial_signature()],
    }
}

fn pegin_notification() -> PeginNotification {
    PeginNotification {
        btc_txid: "ab12".into(),
        vout: 1,
        amount: 5_000_000_000,
        evm_address: "0xcd".into(),
        confirmations: 6,
        extra_data: Some(Bytes::from_static(&[0xde, 0xad])),
    }
}

fn federation_member() -> FederationMember {
    FederationMember {
        member_id: "member-1".into(),
        public_key: Bytes::from_static(&[2, 3]),
        weight: 5,
        active: true,
    }
}

fn text_map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn federation_config() -> FederationConfig {
    FederationConfig {
        signature_threshold: 2,
        member_count: 3,
        parameters: text_map(&[("version", "7"), ("a", "b")]),
    }
}

fn federation_update() -> FederationUpdate {
    FederationUpdate {
        update_type: FederationUpdateType::EmergencyHalt.into(),
        members: vec![federation_member()],
        effective_height: 900_000,
        update_signature: Bytes::from_static(&[9, 8]),
        config: Some(federation_config()),
    }
}

fn proposal_notification() -> ProposalNotification {
    ProposalNotification {
        proposal_id: "p-1".into(),
        proposal_type: ProposalType::ParameterChange.into(),
        proposal_data: Bytes::from_static(&[1]),
        voting_deadline: 1_700_000_003,
        required_votes: 4,
    }
}

fn performance_metrics() -> PerformanceMetrics {
    PerformanceMetrics {
        cpu_usage: 12.5,
        memory_usage: 1024,
        network_sent: 300,
        network_received: 70_000,
        avg_latency_ms: 0.25,
    }
}

fn status_update() -> StatusUpdate {
    StatusUpdate {
        status: NodeStatus::Active.into(),
        block_height: 900_000,
        sync_status: SyncStatus::Synced.into(),
        connection_count: 12,
        metrics: Some(performance_metrics()),
    }
}

fn retry_info() -> RetryInfo {
    RetryInfo { retry_after: 5, max_retries: 10, current_attempt: 1 }
}

fn error_response() -> ErrorResponse {
    ErrorResponse {
        error_code: ErrorCode::FederationError.into(),
        error_message: "busy".into(),
        error_details: Some("later".into()),
        retry_info: Some(retry_info()),
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat { timestamp: 1_700_000_000, sequence: 42, health: HealthStatus::Degraded.into() }
}

fn heartbeat_ack() -> HeartbeatAck {
    HeartbeatAck { original_timestamp: 1_700_000_000, ack_timestamp: 1_700_000_001, sequence: 42 }
}

#[test]
fn stream_request() {
    use stream_request::Payload;
    let file = golden(
        "StreamRequest",
        StreamRequest {
            metadata: Some(request_metadata()),
            payload: Some(Payload::NodeRegistration(node_registration())),
        },
    )
    .empty(|m| m.metadata = Some(RequestMetadata::default()));
    let of = |payload| StreamRequest { metadata: None, payload: Some(payload) };
    for (name, full, empty) in [
        (
            "node_registration",
            Payload::NodeRegistration(node_registration()),
            Payload::NodeRegistration(NodeRegistration::default()),
        ),
        (
            "signature_request",
            Payload::SignatureRequest(signature_request()),
            Payload::SignatureRequest(SignatureRequest::default()),
        ),
        (
            "pegin_notification",
            Payload::PeginNotification(pegin_notification()),
            Payload::PeginNotification(PeginNotification::default()),
        ),
        (
            "status_update",
            Payload::StatusUpdate(status_update()),
            Payload::StatusUpdate(StatusUpdate::default()),
        ),
        ("heartbeat", Payload::Heartbeat(heartbeat()), Payload::Heartbeat(Heartbeat::default())),
    ] {
        file.cases.exact(&format!("payload {name}"), &of(full));
        file.cases.exact(&format!("empty payload {name}"), &of(empty));
    }
    let last = of(Payload::SignatureRequest(signature_request()));
    file.cases.decodes("last payload wins", &last);
    file.done();
}

#[test]
fn stream_response() {
    use stream_response::Payload;
    let file = golden(
        "StreamResponse",
        StreamResponse {
            metadata: Some(response_metadata()),
            payload: Some(Payload::RegistrationAck(node_registration_ack())),
        },
    )
    .empty(|m| m.metadata = Some(ResponseMetadata::default()));
    let of = |payload| StreamResponse { metadata: None, payload: Some(payload) };
    for (name, full, empty) in [
        (
            "registration_ack",
            Payload::RegistrationAck(node_registration_ack()),
            Payload::RegistrationAck(NodeRegistrationAck::default()),
        ),
        (
            "signature_response",
            Payload::SignatureResponse(signature_response()),
            Payload::SignatureResponse(SignatureResponse::default()),
        ),
        (
            "federation_update",
            Payload::FederationUpdate(federation_update()),
            Payload::FederationUpdate(FederationUpdate::default()),
        ),
        (
            "proposal_notification",
            Payload::ProposalNotification(proposal_notification()),
            Payload::ProposalNotification(ProposalNotification::default()),
        ),
        (
            "error_response",
            Payload::ErrorResponse(error_response()),
            Payload::ErrorResponse(ErrorResponse::default()),
        ),
        (
            "heartbeat_ack",
            Payload::HeartbeatAck(heartbeat_ack()),
            Payload::HeartbeatAck(HeartbeatAck::default()),
        ),
    ] {
        file.cases.exact(&format!("payload {name}"), &of(full));
        file.cases.exact(&format!("empty payload {name}"), &of(empty));
    }
    let last = of(Payload::SignatureResponse(signature_response()));
    file.cases.decodes("last payload wins", &last);
    file.done();
}

#[test]
fn metadata() {
    golden("RequestMetadata", request_metadata())
        .zero(|m| m.timeout = Some(0))
        .enums(|m, number| m.priority = number)
        .negative(|m| {
            m.timestamp = i64::MIN;
            m.timeout = Some(-1);
        })
        .done();
    golden("ResponseMetadata", response_metadata())
        .zero(|m| m.message = Some(String::new()))
        .enums(|m, number| m.status = number)
        .negative(|m| m.timestamp = i64::MIN)
        .done();
}

#[test]
fn registration() {
    golden("NodeRegistration", node_registration())
        .empty(|m| {
            m.node_info = Some(NodeInfo::default());
            m.auth = Some(AuthCredentials::default());
        })
        .done();
    golden("NodeRegistrationAck", node_registration_ack())
        .zero(|m| {
            m.session_token = Some(String::new());
            m.expires_at = Some(0);
        })
        .negative(|m| m.expires_at = Some(i64::MIN))
        .done();
    golden("NodeInfo", node_info())
        .zero(|m| m.region = Some(String::new()))
        .enums(|m, number| m.node_type = number)
        .done();
    golden("NetworkEndpoint", network_endpoint())
        .enums(|m, number| m.endpoint_type = number)
        .done();
    golden("AuthCredentials", auth_credentials())
        .zero(|m| m.expires_at = Some(0))
        .enums(|m, number| m.auth_type = number)
        .negative(|m| m.expires_at = Some(i64::MIN))
        .done();
}

#[test]
fn signatures() {
    golden("SignatureRequest", signature_request())
        .zero(|m| m.timeout_seconds = Some(0))
        .enums(|m, number| m.tx_type = number)
        .negative(|m| m.timeout_seconds = Some(-1))
        .reads("unpacked", |m| *m = signature_request())
        .reads("packed and unpacked", |m| m.input_indices = vec![0, 1, 300])
        .done();
    golden("SignatureResponse", signature_response())
        .zero(|m| m.failure_reason = Some(String::new()))
        .enums(|m, number| m.status = number)
        .done();
    golden("WitnessData", witness_data()).enums(|m, number| m.sig_type = number).done();
    golden("PartialSignature", partial_signature()).enums(|m, number| m.status = number).done();
}

#[test]
fn notifications() {
    golden("PeginNotification", pegin_notification())
        .zero(|m| m.extra_data = Some(Bytes::new()))
        .done();
    golden("ProposalNotification", proposal_notification())
        .enums(|m, number| m.proposal_type = number)
        .negative(|m| m.voting_deadline = i64::MIN)
        .done();
}

#[test]
fn federation() {
    golden("FederationUpdate", federation_update())
        .empty(|m| m.config = Some(FederationConfig::default()))
        .enums(|m, number| m.update_type = number)
        .done();
    golden("FederationMember", federation_member()).done();
    golden("FederationConfig", federation_config())
        .map(
            |m| m.parameters = federation_config().parameters,
            |m| m.parameters = text_map(&[("a", ""), ("", "b")]),
            |m| m.parameters = text_map(&[("a", "b")]),
        )
        .done();
}

#[test]
fn status_and_health() {
    golden("StatusUpdate", status_update())
        .empty(|m| m.metrics = Some(PerformanceMetrics::default()))
        .enums(|m, number| {
            m.status = number;
            m.sync_status = number;
        })
        .done();
    golden("PerformanceMetrics", performance_metrics()).done();
    golden("Heartbeat", heartbeat())
        .enums(|m, number| m.health = number)
        .negative(|m| m.timestamp = i64::MIN)
        .done();
    golden("HeartbeatAck", heartbeat_ack())
        .negative(|m| {
            m.original_timestamp = i64::MIN;
            m.ack_timestamp = i64::MIN;
        })
        .done();
    golden("HealthRequest", HealthRequest { check_type: Some("deep".into()) })
        .zero(|m| m.check_type = Some(String::new()))
        .done();
    let health = HealthResponse {
        status: HealthStatus::Healthy.into(),
        version: "1.2".into(),
        uptime: 3600,
        info: text_map(&[("region", "eu"), ("zone", "b")]),
    };
    golden("HealthResponse", health)
        .enums(|m, number| m.status = number)
        .negative(|m| m.uptime = i64::MIN)
        .map(
            |m| m.info = text_map(&[("region", "eu"), ("zone", "b")]),
            |m| m.info = text_map(&[("region", ""), ("", "eu")]),
            |m| m.info = text_map(&[("region", "eu")]),
        )
        .done();
}

#[test]
fn errors() {
    golden("ErrorResponse", error_response())
        .zero(|m| m.error_details = Some(String::new()))
        .empty(|m| m.retry_info = Some(RetryInfo::default()))
        .enums(|m, number| m.error_code = number)
        .done();
    golden("RetryInfo", retry_info())
        .negative(|m| *m = RetryInfo { retry_after: -1, max_retries: -1, current_attempt: -1 })
        .done();
}

#[test]
fn capabilities() {
    let limits = |entries: &[(&str, i32)]| {
        entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect::<BTreeMap<_, _>>()
    };
    golden("CapabilitiesRequest", CapabilitiesRequest { node_id: "alys-1".into() }).done();
    let able = CapabilitiesResponse {
        protocol_versions: vec!["1.0".into(), "1.1".into()],
        features: vec!["alys.stream.v1".into()],
        limits: limits(&[("floor", -1), ("inputs", 1024)]),
    };
    golden("CapabilitiesResponse", able)
        .map(
            |m| m.limits = limits(&[("inputs", 1024), ("floor", -1)]),
            |m| m.limits = limits(&[("floor", 0), ("", -1)]),
            |m| m.limits = limits(&[("floor", -1)]),
        )
        .done();
}

#[test]
fn there_is_a_file_for_every_message_and_a_case_for_every_field() {
    let contract = crate::contract::Contract::published();
    let files: BTreeSet<String> = std::fs::read_dir(path("golden/governance"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, contract.messages.keys().cloned().collect());
    let mut fields = 0;
    for (name, lines) in &contract.messages {
        let text = std::fs::read_to_string(path(&format!("golden/governance/{name}.hex"))).unwrap();
        for line in lines {
            let (number, field) =
                (line.split(' ').next().unwrap(), line.split(' ').next_back().unwrap());
            assert!(
                text.contains(&format!("# {number} {field}")),
                "{name} has no {number} {field}"
            );
            fields += 1;
        }
    }
    assert_eq!((files.len(), fields), (28, 114));
}

#[test]
fn what_is_not_a_message_is_refused() {
    let bad: [&[u8]; 6] = [
        &[0x0a, 0x05, 0x00], // cut short
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // endless length
        &[0x08, 0x01],       // wrong wire type
        &[0x00, 0x01],       // field 0
        &[0x0f],             // wire type 7
        &[0x0a, 0x03, 0x0a, 0x01, 0xff], // not UTF-8
    ];
    for bytes in bad {
        assert!(StreamRequest::decode(bytes).is_err(), "{bytes:?}");
    }
}
