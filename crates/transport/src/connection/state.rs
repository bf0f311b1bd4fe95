//! The eleven states.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Where a connection stands, with the timers of each state.
///
/// ```text
///                         ┌──────────── Failed ◀───────────┐
///                         ▼               ▲                │
/// Disconnected ──▶ Connecting ────────────┼──▶ Authenticating ──▶ Connected ◀──▶ Suspended
///                         ▲               │                         │   ▲
///                         │                                         ▼   │
///                   Reconnecting ◀── Critical ◀─▶ Warning ◀──▶ Healthy ◀─▶ Streaming
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not wanted, or not yet.
    Disconnected,
    /// TCP and TLS are under way.
    Connecting {
        /// Failed then.
        give_up_at: Instant,
    },
    /// Capabilities and handshake are under way.
    Authenticating {
        /// Failed then.
        give_up_at: Instant,
    },
    /// Accepted by the peer; no stream carries data.
    Connected,
    /// A stream is open and has not proved itself yet.
    Streaming,
    /// No number is out of its range.
    Healthy {
        /// The backoff is reset then.
        reset_at: Option<Instant>,
    },
    /// Some number is out of its range.
    Warning,
    /// It is about to be given up.
    Critical {
        /// Given up then.
        give_up_at: Instant,
    },
    /// Lost; it is dialled again.
    Reconnecting {
        /// Then.
        retry_at: Instant,
    },
    /// It could not be made; it is dialled again.
    Failed {
        /// Then.
        retry_at: Instant,
    },
    /// Made, but governance wants no data.
    Suspended {
        /// Resumed then, unless governance says so itself.
        resume_at: Option<Instant>,
    },
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Disconnected => StateKind::Disconnected,
            Self::Connecting { .. } => StateKind::Connecting,
            Self::Authenticating { .. } => StateKind::Authenticating,
            Self::Connected => StateKind::Connected,
            Self::Streaming => StateKind::Streaming,
            Self::Healthy { .. } => StateKind::Healthy,
            Self::Warning => StateKind::Warning,
            Self::Critical { .. } => StateKind::Critical,
            Self::Reconnecting { .. } => StateKind::Reconnecting,
            Self::Failed { .. } => StateKind::Failed,
            Self::Suspended { .. } => StateKind::Suspended,
        }
    }
}

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "documented on State")]
pub enum StateKind {
    Disconnected,
    Connecting,
    Authenticating,
    Connected,
    Streaming,
    Healthy,
    Warning,
    Critical,
    Reconnecting,
    Failed,
    Suspended,
}

impl StateKind {
    /// All eleven.
    pub const ALL: [Self; 11] = [
        Self::Disconnected,
        Self::Connecting,
        Self::Authenticating,
        Self::Connected,
        Self::Streaming,
        Self::Healthy,
        Self::Warning,
        Self::Critical,
        Self::Reconnecting,
        Self::Failed,
        Self::Suspended,
    ];

    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Authenticating => "authenticating",
            Self::Connected => "connected",
            Self::Streaming => "streaming",
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Reconnecting => "reconnecting",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
        }
    }

    /// Whether the peer has accepted us and the link is up.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Connected
            | Self::Streaming
            | Self::Healthy
            | Self::Warning
            | Self::Critical
            | Self::Suspended => true,
            Self::Disconnected
            | Self::Connecting
            | Self::Authenticating
            | Self::Reconnecting
            | Self::Failed => false,
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
