//! What the node can do now, and why, as a pure function of what is observed.
//!
//! | mode | what goes on |
//! |---|---|
//! | stopped | nothing |
//! | restarting | nothing is accepted until the StreamActor is back; the disk keeps what was |
//! | halted | messages go both ways; no blocks, no broadcasts |
//! | disk failed | nothing is accepted; what is durable is sent |
//! | disk full | backpressure; what is durable is sent, and settling frees space |
//! | buffer full | backpressure; what is in the buffer is sent |
//! | no endpoint | messages are accepted and held |
//! | reduced | half or more of the endpoints are gone: signatures are still collected |
//! | no federation | everything but signature requests |
//! | falling behind | everything, later: an actor does not keep up, so governance is slowed down |
//! | normal | everything |
//!
//! The first one that applies, from the top, is the mode; all reasons are told.

use std::fmt;

/// What is observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The tree was stopped, or gave up, with this reason.
    pub stopped: Option<String>,
    /// The StreamActor is being started again.
    pub is_restarting: bool,
    /// Governance halted block production, with this reason.
    pub halted: Option<String>,
    /// The log failed and takes nothing more.
    pub is_disk_failed: bool,
    /// The last append found the disk full.
    pub is_disk_full: bool,
    /// Bytes of unsettled messages, and how many there may be.
    pub buffer_bytes: u64,
    /// The quota of the buffer.
    pub buffer_bytes_max: u64,
    /// Endpoints that carry data.
    pub endpoints_live: usize,
    /// Endpoints that should.
    pub endpoints_enabled: usize,
    /// How many members must sign; `None` without a federation.
    pub threshold: Option<u32>,
    /// Actors that are absent or do not keep up.
    pub targets_late: Vec<&'static str>,
}

/// What the node can do now. In the order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: the tree was stopped, or gave up.
    Stopped,
    /// Nothing for a moment: the StreamActor is being started again.
    Restarting,
    /// Everything but producing blocks and broadcasting.
    Halted,
    /// Sends what is durable; accepts nothing.
    DiskFailed,
    /// Sends what is durable; accepts nothing until there is space.
    DiskFull,
    /// Sends what is in the buffer; accepts nothing until some of it is settled.
    BufferFull,
    /// Accepts and holds.
    NoEndpoint,
    /// Everything, with half or more of the endpoints gone.
    Reduced,
    /// Everything but signature requests.
    NoFederation,
    /// Everything, later.
    FallingBehind,
    /// Everything.
    Normal,
}

impl Mode {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Halted => "halted",
            Self::DiskFailed => "disk_failed",
            Self::DiskFull => "disk_full",
            Self::BufferFull => "buffer_full",
            Self::NoEndpoint => "no_endpoint",
            Self::Reduced => "reduced",
            Self::NoFederation => "no_federation",
            Self::FallingBehind => "falling_behind",
            Self::Normal => "normal",
        }
    }

    /// Whether everything works.
    #[must_use]
    pub const fn is_normal(self) -> bool {
        matches!(self, Self::Normal)
    }

    /// Whether messages are accepted.
    #[must_use]
    pub const fn accepts(self) -> bool {
        match self {
            Self::Stopped
            | Self::Restarting
            | Self::DiskFailed
            | Self::DiskFull
            | Self::BufferFull => false,
            Self::Halted
            | Self::NoEndpoint
            | Self::Reduced
            | Self::NoFederation
            | Self::FallingBehind
            | Self::Normal => true,
        }
    }

    /// Whether blocks may be produced, as far as governance is concerned: not while it cannot be
    /// heard, since a halt would not be heard either.
    #[must_use]
    pub const fn may_produce(self) -> bool {
        match self {
            Self::Stopped | Self::Restarting | Self::Halted | Self::NoEndpoint => false,
            Self::DiskFailed
            | Self::DiskFull
            | Self::BufferFull
            | Self::Reduced
            | Self::NoFederation
            | Self::FallingBehind
            | Self::Normal => true,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The mode and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModeReport {
    /// What the node can do.
    pub mode: Mode,
    /// Why, and what still goes on; one sentence for everything that is not normal.
    pub reason: String,
}

impl ModeReport {
    /// Looks at the facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let found = facts.found();
        let mode = found.iter().map(|(mode, _)| *mode).min().unwrap_or(Mode::Normal);
        let reasons: Vec<_> = found.into_iter().map(|(_, reason)| reason).collect();
        let reason =
            if reasons.is_empty() { "everything works".to_owned() } else { reasons.join("; ") };
        Self { mode, reason }
    }
}

impl Facts {
    /// Everything that is not normal, in the order of precedence.
    fn found(&self) -> Vec<(Mode, String)> {
        let mut found = Vec::new();
        if let Some(reason) = &self.stopped {
            found.push((Mode::Stopped, format!("the node does not run: {reason}")));
        }
        if self.is_restarting {
            let reason = "the StreamActor is being started again: what was accepted is on disk";
            found.push((Mode::Restarting, reason.to_owned()));
        }
        if let Some(reason) = &self.halted {
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            let words = format!("governance halted block production ({reason}): messages still go");
            found.push((Mode::Halted, words));
        }
        found.extend(self.disk());
        found.extend(self.endpoints());
        if self.threshold.is_none() {
            let reason = "no federation is configured: signature requests are refused";
            found.push((Mode::NoFederation, reason.to_owned()));
        }
        if !self.targets_late.is_empty() {
            let who = self.targets_late.join(", ");
            let words = format!("{who} cannot be told: what governance pushes waits");
            found.push((Mode::FallingBehind, words));
        }
        found
    }

    fn disk(&self) -> Option<(Mode, String)> {
        if self.is_disk_failed {
            let reason =
                "the disk takes no more writes: nothing is accepted, what is durable is sent";
            return Some((Mode::DiskFailed, reason.to_owned()));
        }
        if self.is_disk_full {
            let reason = "the disk is full: senders wait, what is durable is sent";
            return Some((Mode::DiskFull, reason.to_owned()));
        }
        if self.buffer_bytes_max > 0 && self.buffer_bytes >= self.buffer_bytes_max {
            let (used, most) = (self.buffer_bytes, self.buffer_bytes_max);
            let words = format!("the buffer holds {used} of {most} bytes: senders wait");
            return Some((Mode::BufferFull, words));
        }
        None
    }

    fn endpoints(&self) -> Option<(Mode, String)> {
        let (live, enabled) = (self.endpoints_live, self.endpoints_enabled);
        if live == 0 {
            let words =
                format!("none of {enabled} endpoints carries data: messages are accepted and held");
            return Some((Mode::NoEndpoint, words));
        }
        if live * 2 <= enabled {
            let needed = self.threshold.and_then(|needed| usize::try_from(needed).ok());
            let reach = match needed.filter(|needed| live < *needed) {
                Some(needed) => format!(
                    "signatures are collected, {needed} members must sign and may not all be behind them"
                ),
                None => "signatures are still collected".to_owned(),
            };
            let words = format!("{live} of {enabled} endpoints carry data: {reach}");
            return Some((Mode::Reduced, words));
        }
        None
    }
}
