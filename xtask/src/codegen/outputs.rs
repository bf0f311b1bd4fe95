//! Which files are generated, from which package, and whose messages they refer to.
//!
//! Messages live in the protocol crate alone, so that a tool can decode a capture without tonic;
//! clients and servers live beside the code that uses them and refer to those messages.

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Messages,
    Client,
    Server,
    ClientAndServer,
}

/// One generated file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// The folder; the file in it is named for the package.
    pub(crate) folder: &'static str,
    /// The protobuf package.
    pub(crate) package: &'static str,
    /// The files of the package that it is made of.
    pub(crate) protos: &'static [&'static str],
    pub(crate) holds: Holds,
    /// Packages whose messages are defined elsewhere, and where.
    pub(crate) externs: &'static [(&'static str, &'static str)],
    /// What encodes and decodes the messages of services.
    pub(crate) codec: &'static str,
}

const GOVERNANCE: &str = "governance.v1";
const GOVERNANCE_PROTO: &str = "governance/v1/governance.proto";
const SESSION: &str = "alys.stream.v1";
const SESSION_PROTO: &str = "alys/stream/v1/stream.proto";
const NODE: &str = "alys.node.v1";
const SUBMISSION_PROTO: &str = "alys/node/v1/submission.proto";
const OPERATOR_PROTO: &str = "alys/node/v1/operator.proto";

const MESSAGES: &str = "crates/protocol/src/generated";
const CLIENTS: &str = "crates/transport/src/grpc/generated";
const SERVERS: &str = "crates/governance/src/generated";
const LOCAL: &str = "crates/node/src/submission/generated";
const OPERATOR: &str = "crates/node/src/operator/generated";
const TESTS: &str = "tests/src/generated";

/// Encodes and decodes whatever the messages are.
const PROST: &str = "tonic_prost::ProstCodec";

const IN_PROTOCOL: &[(&str, &str)] = &[(".governance.v1", "crate::governance")];
const OUTSIDE_PROTOCOL: &[(&str, &str)] = &[
    (".governance.v1", "::alys_stream_protocol::governance"),
    (".alys.stream.v1", "::alys_stream_protocol::session"),
    (".alys.node.v1", "::alys_stream_protocol::submission"),
];

/// Every proto of the repository.
pub(crate) const PROTOS: &[&str] =
    &[GOVERNANCE_PROTO, SESSION_PROTO, SUBMISSION_PROTO, OPERATOR_PROTO];

/// What the reflection service of a governance node describes.
pub(crate) const REFLECTED: &[&str] = &[GOVERNANCE_PROTO, SESSION_PROTO];
/// Where that description lies.
pub(crate) const DESCRIPTOR: &str = "crates/governance/src/generated/descriptor.bin";

/// Messages that carry secrets: their `Debug` is written by hand in the protocol crate.
pub(crate) const SECRET: &[&str] = &[
    ".governance.v1.AuthCredentials",
    ".governance.v1.NodeRegistrationAck",
    ".alys.stream.v1.AuthProof",
];

/// The contract that later versions must not break.
pub(crate) const BASELINE: &str = "proto/baseline.binpb";

/// Every generated source file.
pub(crate) const OUTPUTS: &[Output] = &[
    messages(GOVERNANCE, &[GOVERNANCE_PROTO], &[]),
    messages(SESSION, &[SESSION_PROTO], &[]),
    messages(NODE, &[SUBMISSION_PROTO, OPERATOR_PROTO], IN_PROTOCOL),
    service(CLIENTS, GOVERNANCE, &[GOVERNANCE_PROTO], Holds::Client),
    service(CLIENTS, SESSION, &[SESSION_PROTO], Holds::Client).with("crate::grpc::FrameCodec"),
    service(SERVERS, GOVERNANCE, &[GOVERNANCE_PROTO], Holds::Server),
    service(SERVERS, SESSION, &[SESSION_PROTO], Holds::Server)
        .with("::alys_stream_transport::grpc::FrameCodec"),
    service(LOCAL, NODE, &[SUBMISSION_PROTO], Holds::ClientAndServer),
    service(OPERATOR, NODE, &[OPERATOR_PROTO], Holds::ClientAndServer),
    service(TESTS, NODE, &[SUBMISSION_PROTO], Holds::Client),
];

const fn messages(
    package: &'static str,
    protos: &'static [&'static str],
    externs: &'static [(&'static str, &'static str)],
) -> Output {
    let (folder, holds, codec) = (MESSAGES, Holds::Messages, PROST);
    Output { folder, package, protos, holds, externs, codec }
}

const fn service(
    folder: &'static str,
    package: &'static str,
    protos: &'static [&'static str],
    holds: Holds,
) -> Output {
    let (externs, codec) = (OUTSIDE_PROTOCOL, PROST);
    Output { folder, package, protos, holds, externs, codec }
}

impl Output {
    /// The same with another codec.
    const fn with(self, codec: &'static str) -> Self {
        Self { codec, ..self }
    }
}
