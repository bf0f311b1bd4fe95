//! The published contract as text, against the proto file and the generated code.

use std::collections::BTreeMap;

use alys_stream_protocol::governance as generated;

use crate::cases::path;

const PROTO: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../proto/governance/v1/governance.proto"
));

/// Messages and enumerations with their lines: `number type name` and `number NAME`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contract {
    pub(crate) messages: BTreeMap<String, Vec<String>>,
    pub(crate) enums: BTreeMap<String, Vec<String>>,
}

impl Contract {
    /// As the specification has it.
    pub(crate) fn published() -> Self {
        let text = std::fs::read_to_string(path("contract/governance.v1.txt"))
            .expect("the contract is there");
        let mut contract = Self::default();
        let mut lines = None;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            lines = match line.split_once(' ') {
                Some(("message", name)) => Some(contract.messages.entry(name.into()).or_default()),
                Some(("enum", name)) => Some(contract.enums.entry(name.into()).or_default()),
                _ => {
                    let lines = lines.expect("a field belongs to something");
                    lines.push(line.trim().to_owned());
                    Some(lines)
                }
            };
        }
        contract
    }

    /// As a proto file has it. Reads no more of the language than that file uses.
    fn of_proto(text: &str) -> Self {
        let mut contract = Self::default();
        let (mut lines, mut in_oneof) = (None, false);
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<_> = line.trim_end_matches([';', '{']).split_whitespace().collect();
            match words.as_slice() {
                ["message", name] => {
                    lines = Some(contract.messages.entry((*name).into()).or_default());
                }
                ["enum", name] => lines = Some(contract.enums.entry((*name).into()).or_default()),
                ["oneof", "payload"] => in_oneof = true,
                ["}"] if in_oneof => in_oneof = false,
                ["}"] => lines = None,
                [before @ .., name, "=", number] => {
                    if let Some(lines) = lines.as_mut() {
                        let oneof = in_oneof.then_some("oneof");
                        let words: Vec<_> = std::iter::once(*number)
                            .chain(oneof)
                            .chain(before.iter().copied())
                            .chain([*name])
                            .collect();
                        lines.push(words.join(" "));
                    }
                }
                _ => {}
            }
        }
        contract
    }
}

#[test]
fn the_proto_file_says_what_the_specification_says() {
    let published = Contract::published();
    assert_eq!(Contract::of_proto(PROTO), published);
    let fields: usize = published.messages.values().map(Vec::len).sum();
    let values: usize = published.enums.values().map(Vec::len).sum();
    assert_eq!(
        (published.messages.len(), fields, published.enums.len(), values),
        (28, 114, 14, 78)
    );
    assert!(PROTO.contains("syntax = \"proto3\";"));
    assert!(PROTO.contains("package governance.v1;"));
    assert!(!PROTO.lines().any(|line| line.starts_with("import")));
}

#[test]
fn the_service_is_the_published_one() {
    let rpcs: Vec<_> =
        PROTO.lines().map(str::trim).filter(|line| line.starts_with("rpc ")).collect();
    assert_eq!(
        rpcs,
        [
            "rpc Stream(stream StreamRequest) returns (stream StreamResponse);",
            "rpc Health(HealthRequest) returns (HealthResponse);",
            "rpc GetCapabilities(CapabilitiesRequest) returns (CapabilitiesResponse);",
        ]
    );
    assert_eq!(PROTO.matches("service GovernanceStream {").count(), 1);
}

/// What the generated code makes of each number from below the first to beyond the last.
macro_rules! values {
    ($($name:ident),* $(,)?) => {
        BTreeMap::from([$((
            stringify!($name).to_owned(),
            (-2..64)
                .filter_map(|number| {
                    let value = generated::$name::try_from(number).ok()?;
                    assert_eq!(generated::$name::from_str_name(value.as_str_name()), Some(value));
                    Some(format!("{number} {}", value.as_str_name()))
                })
                .collect::<Vec<_>>(),
        )),*])
    };
}

#[test]
fn generated_enumerations_go_by_number() {
    let values = values![
        RequestPriority,
        StatusCode,
        TransactionType,
        SignatureStatus,
        FederationUpdateType,
        ProposalType,
        NodeType,
        EndpointType,
        AuthType,
        SignatureType,
        NodeStatus,
        SyncStatus,
        HealthStatus,
        ErrorCode,
    ];
    assert_eq!(values, Contract::published().enums);
}
