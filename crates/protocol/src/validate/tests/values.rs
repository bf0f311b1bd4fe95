//! Valid values of every kind, for the tests to spoil.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::*;
use crate::governance::*;

const KEY: [u8; 33] = [
    0x02, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b,
    0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17,
    0x98,
];

/// Asserts what `check` says about `value` after `spoil`; an empty text means that it passes.
pub(super) fn expect<T: Clone>(
    check: fn(&T) -> Result<(), Invalid>,
    value: &T,
    spoil: impl FnOnce(&mut T),
    expected: &str,
) {
    let mut value = value.clone();
    spoil(&mut value);
    let said = check(&value).map_or_else(|invalid| invalid.to_string(), |()| String::new());
    assert_eq!(said, expected);
}

pub(super) fn metadata() -> RequestMetadata {
    RequestMetadata {
        request_id: "0190163d-8694-739b-aea5-966c26f8ad91".into(),
        timestamp: 1_700_000_000,
        node_id: "alys-1".into(),
        protocol_version: "1".into(),
        priority: 2,
        timeout: Some(30),
    }
}

pub(super) fn answer() -> ResponseMetadata {
    ResponseMetadata {
        request_id: metadata().request_id,
        timestamp: 1_700_000_000,
        node_id: "gov-1".into(),
        status: 1,
        message: None,
    }
}

pub(super) fn registration() -> NodeRegistration {
    NodeRegistration {
        node_info: Some(NodeInfo {
            public_key: hex::encode(KEY),
            node_type: 1,
            version: "0.1.0".into(),
            region: Some("eu".into()),
        }),
        capabilities: vec!["alys.stream.v1".into()],
        endpoints: vec![NetworkEndpoint {
            url: "https://node.example:443".into(),
            endpoint_type: 1,
            priority: 1,
            enabled: true,
        }],
        auth: Some(AuthCredentials {
            auth_type: 1,
            credential_data: Bytes::from_static(b"token"),
            expires_at: Some(1),
        }),
    }
}

pub(super) fn signing() -> SignatureRequest {
    SignatureRequest {
        tx_hex: "00ff".into(),
        input_indices: vec![0, 1, 2],
        amounts: vec![1, 2, 3],
        tx_type: 2,
        required_signatures: 2,
        timeout_seconds: Some(60),
    }
}

pub(super) fn pegin() -> PeginNotification {
    PeginNotification {
        btc_txid: "ab".repeat(32),
        vout: 0,
        amount: 1,
        evm_address: "0x52908400098527886E0F7030069857D2E4169EE7".into(),
        confirmations: 6,
        extra_data: None,
    }
}

pub(super) fn status() -> StatusUpdate {
    StatusUpdate {
        status: 3,
        block_height: 1,
        sync_status: 1,
        connection_count: 1,
        metrics: Some(PerformanceMetrics {
            cpu_usage: 12.5,
            memory_usage: 1,
            network_sent: 1,
            network_received: 1,
            avg_latency_ms: 0.25,
        }),
    }
}

pub(super) fn signed() -> SignatureResponse {
    SignatureResponse {
        status: 3,
        signatures: vec![WitnessData {
            signature: Bytes::from_static(&[1; 71]),
            public_key: Bytes::from_static(&KEY),
            sig_type: 1,
        }],
        failure_reason: None,
        partial_signatures: vec![PartialSignature {
            signer_id: "member-1".into(),
            signature: Bytes::new(),
            status: 1,
        }],
    }
}

pub(super) fn update() -> FederationUpdate {
    FederationUpdate {
        update_type: 1,
        members: vec![FederationMember {
            member_id: "member-1".into(),
            public_key: Bytes::from_static(&KEY),
            weight: 1,
            active: true,
        }],
        effective_height: 0,
        update_signature: Bytes::from_static(&[1]),
        config: Some(FederationConfig {
            signature_threshold: 1,
            member_count: 1,
            parameters: BTreeMap::from([("version".into(), "1".into())]),
        }),
    }
}

pub(super) fn proposal() -> ProposalNotification {
    ProposalNotification {
        proposal_id: "p-1".into(),
        proposal_type: 1,
        proposal_data: Bytes::from_static(&[1]),
        voting_deadline: 1,
        required_votes: 1,
    }
}

pub(super) fn error() -> ErrorResponse {
    ErrorResponse {
        error_code: 5,
        error_message: "busy".into(),
        error_details: Some("try again".into()),
        retry_info: Some(RetryInfo { retry_after: 3, max_retries: 5, current_attempt: 1 }),
    }
}
