//! Label values that come from closed sets (T1).

/// How far a connection is, as the dashboards count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionStatus {
    /// No connection, or one that is being made.
    Disconnected,
    /// TCP and TLS are up.
    Connected,
    /// The peer accepted who we are.
    Authenticated,
    /// A stream carries messages.
    Streaming,
}

impl ConnectionStatus {
    /// The value of `alys_governance_connection_status`.
    #[must_use]
    pub const fn as_number(self) -> u64 {
        match self {
            Self::Disconnected => 0,
            Self::Connected => 1,
            Self::Authenticated => 2,
            Self::Streaming => 3,
        }
    }
}

/// Where the circuit breaker of an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerPosition {
    /// Everything passes.
    Closed,
    /// One probe passes.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl BreakerPosition {
    /// The value of `alys_stream_breaker_state`.
    #[must_use]
    pub const fn as_number(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// What a message is about, as the dashboards group them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamType {
    /// The link itself: registration, heartbeats, acknowledgements, errors.
    Consensus,
    /// Changes of the federation.
    Federation,
    /// What happened on the chains: peg-ins, status reports, application kinds.
    ChainData,
    /// Votes.
    Proposals,
    /// Signatures, asked and given.
    Attestations,
}

impl StreamType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Consensus, Self::Federation, Self::ChainData, Self::Proposals, Self::Attestations];

    /// The group of a message type, given by the word of its kind (`signature_request`, …).
    #[must_use]
    pub fn of(message_type: &str) -> Self {
        match message_type {
            "federation_update" => Self::Federation,
            "proposal_notification" => Self::Proposals,
            "signature_request" | "signature_response" => Self::Attestations,
            "pegin_notification" | "status_update" | "application" => Self::ChainData,
            _ => Self::Consensus,
        }
    }

    /// The value of the label `stream_type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Federation => "federation",
            Self::ChainData => "chain_data",
            Self::Proposals => "proposals",
            Self::Attestations => "attestations",
        }
    }
}
