//! The federation in force: what changes it, when, and what is remembered of it (D9).
//!
//! [`Federations`] is a pure machine. It is told updates, heights and the present [`Moment`], and
//! says what to store, what to tell and to whom, in order. [`FederationDriver`] performs that:
//! the store first, then the neighbours. [`FederationHistory`] keeps the chain on disk and gives
//! it back at the next start, verified link by link.
//!
//! ```text
//! update ─▶ form ─▶ version ─▶ signatures of the predecessor ─▶ members, threshold ─▶ scheduled ─▶ in force
//! halt, resume ─▶ form ─▶ version ─▶ signatures of the federation in force ─▶ at once, ahead of all
//! ```
//!
//! - **Predecessor.** An update replaces the federation that is in force when it takes effect: the
//!   last scheduled one, or the one in force now. The members of that one must have signed it. An
//!   update that takes effect no later than scheduled ones supersedes those.
//! - **Versions** ascend in the order of acceptance, and never go back: not for a restart, not when
//!   an update was withdrawn. A version that two contents were signed for is burnt.
//! - **Emergencies** (`EMERGENCY_HALT`) have a number line of their own, in the same parameter
//!   `version`, so that nobody has to look up the version of the federation to halt. A halt needs
//!   no version: the same one then acts once. The parameter [`EMERGENCY_PARAMETER`] with the value
//!   [`EMERGENCY_RESUME`] makes it a resume; every other value, known or not, halts, so that a
//!   mistake stops the chain and never starts it. A resume needs a version. An effective height is
//!   not looked at: both act at once.
//!
//! Not here: agreement of several endpoints ([`crate::agreement`]), and who signs a transaction.
//!
//! Invariants:
//! - A10: what is in force was signed by the members of what it replaced, up to the root that this
//!   node was configured with (D9).
//! - A11: versions ascend; the highest one ever accepted is durable before anybody is told.
//! - A12: nothing takes effect below its effective height.
//! - A13: a halt with a valid signature acts before anything else is performed; a resume only once
//!   it is durable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, FederationError, ScriptKind};
use alys_stream_protocol::governance::FederationUpdate;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;
use bitcoin::{Address, Network};

mod behind;
mod driver;
mod emergency;
mod entry;
mod history;
mod machine;
mod pushed;
mod refused;
mod restore;
mod successor;
#[cfg(test)]
pub(crate) mod tests;

pub use alys_stream_protocol::federation::{EMERGENCY_PARAMETER, EMERGENCY_RESUME};
pub use driver::{FederationDriver, FederationFailure};
pub(crate) use emergency::kind_of;
pub use emergency::{Emergency, EmergencyKind};
pub use entry::{AcceptedEntry, EmergencyEntry, Entry, InForceEntry, InvalidEntry, RootEntry};
pub use history::{FederationHistory, HISTORY_ENTRIES_MAX, HistoryError};
pub use pushed::Pushed;
pub use refused::Refused;
pub use restore::RestoreError;

/// Most updates that wait for their height. Each was signed by a whole federation, so an honest one
/// stays far below; more are refused, to be sent again.
pub const SCHEDULED_MAX: usize = 16;

/// Federations that stay in memory for requests that were created under them. A request lives for
/// minutes; 64 changes of a federation in that time are out of the question.
pub const RECENT_MAX: usize = 64;

/// Accepted versions whose contents are remembered, to tell a conflict from an old copy. Below
/// them a version is refused for being old alone.
pub const KNOWN_VERSIONS_MAX: usize = 128;

/// Halts without a version that are remembered, each by its digest, for good. Further ones need a
/// version: forgetting one would let it act again.
pub const UNVERSIONED_HALTS_MAX: usize = 64;

/// The version of a federation: `config.parameters["version"]`; the configured one has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When something happens, on both lines that matter: the clock, and the numbers of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall time.
    pub at: UnixMillis,
    /// What the next accepted message will get.
    pub next_seq: Seq,
}

/// The federation that this node was configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its version; 0 unless configured. One above all that the history holds takes over from it.
    pub version: Version,
    /// Its members and threshold.
    pub federation: Federation,
}

/// A federation that is or was in force.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// Its version.
    pub version: Version,
    /// Its members and threshold.
    pub federation: Federation,
    /// From which height on; 0 when it was at once.
    pub effective_height: u64,
    /// Since when.
    pub since: UnixMillis,
    /// Messages from this one on were accepted under it.
    pub first_seq: Seq,
    /// The update that announced it, as signed; `None` for the configured one.
    pub update: Option<Arc<FederationUpdate>>,
}

impl InForce {
    /// Where coins go under it.
    ///
    /// # Errors
    ///
    /// When its members cannot be put into one of the scripts.
    pub fn addresses(&self, network: Network) -> Result<Addresses, FederationError> {
        Addresses::of(&self.federation, network)
    }
}

/// The addresses of one federation. Pegged-in coins go to that of its own script kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// `wsh(multi(…))`.
    pub p2wsh: Address,
    /// `tr(unspendable, multi_a(…))`.
    pub p2tr: Address,
}

impl Addresses {
    /// Derives both.
    ///
    /// # Errors
    ///
    /// When its members cannot be put into one of the scripts.
    pub fn of(federation: &Federation, network: Network) -> Result<Self, FederationError> {
        let of_kind = |kind| {
            let members = federation.members().to_vec();
            let same = Federation::try_new(federation.threshold(), members, kind)?;
            Ok::<_, FederationError>(same.address(network))
        };
        Ok(Self { p2wsh: of_kind(ScriptKind::P2wsh)?, p2tr: of_kind(ScriptKind::P2tr)? })
    }
}

/// An accepted update that waits for its height.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// Its version.
    pub version: Version,
    /// What it announces.
    pub federation: Federation,
    /// From which height on; 0 for at once.
    pub effective_height: u64,
    /// Since when it is known.
    pub accepted_at: UnixMillis,
    /// The update, as signed.
    pub update: Arc<FederationUpdate>,
}

/// What an update led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The same content was taken before; nothing happened.
    AlreadyKnown,
    /// It waits for its height.
    Scheduled {
        /// Its version.
        version: Version,
        /// Its height.
        effective_height: u64,
    },
    /// It is in force.
    InForce {
        /// Its version.
        version: Version,
    },
    /// Block production is to stop.
    Halted,
    /// Block production may go on.
    Resumed,
}

/// What the driver has to do, in this order. The next one is looked at with
/// [`Federations::peek_action`] and taken away with [`Federations::finish_action`] once it is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make it durable before anything that follows.
    Store(Arc<Entry>),
    /// Tell Chain of an update that waits for its height.
    TellScheduled(Arc<Scheduled>),
    /// Tell Chain, Bridge, Network and Storage of the federation that is in force.
    TellInForce(Arc<InForce>),
    /// Tell Chain and Bridge to go on.
    TellResumed(Arc<Emergency>),
    /// Raise an alert: two contents for one version.
    Alert(Conflict),
}

/// Two contents were signed for one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The version.
    pub version: Version,
    /// Whether it is an emergency's.
    pub is_emergency: bool,
    /// Whether one of them is in force, or acted, already.
    pub is_in_force: bool,
}

/// What was counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct FederationCounts {
    /// Updates and emergencies that were taken.
    pub taken: u64,
    /// Copies of what was taken before.
    pub duplicates: u64,
    /// What was refused, by [`Refused::word`].
    pub refused: BTreeMap<&'static str, u64>,
}

/// A version that was accepted: what it said, and who had to sign it.
#[derive(Debug, Clone)]
struct Known {
    digest: [u8; 32],
    predecessor: Signer,
    is_burnt: bool,
    /// Another content was signed for it; that was told.
    is_disputed: bool,
}

/// Who an update had to be signed by.
#[derive(Debug, Clone)]
struct Signer {
    version: Version,
    federation: Federation,
}

/// The federation in force and what is scheduled to replace it. Pure.
#[derive(Debug)]
pub struct Federations {
    in_force: Arc<InForce>,
    /// Ascending by version and by height.
    scheduled: VecDeque<Arc<Scheduled>>,
    /// Those that were in force before, oldest first.
    recent: VecDeque<Arc<InForce>>,
    known: BTreeMap<Version, Known>,
    /// The highest version ever accepted, or burnt (A11).
    newest: Version,
    /// The highest height that Chain told.
    height: Option<u64>,
    emergencies: emergency::Emergencies,
    actions: VecDeque<Action>,
    /// Halts that act ahead of all actions (A13).
    halts: VecDeque<Arc<Emergency>>,
    counts: FederationCounts,
}
