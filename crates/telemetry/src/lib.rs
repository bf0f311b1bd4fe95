//! What an Alys node shows of itself: metrics, logs and the admin port.
//!
//! Not the source of any number: the layers know nothing about this crate, and the crate that
//! composes them calls it. Three parts:
//!
//! - [`metrics`]: every time series, with the names operators rely on.
//! - [`admin`]: the HTTP port that shows them, with health, readiness, status and configuration.
//! - [`logs`]: where log lines go and how they look.
//!
//! Invariants:
//! - T1: a label value is configured or comes from a closed set, never from a message or a peer.
//! - T2: nothing here is global but the log subscriber, so tests may run side by side.

pub mod admin;
pub mod logs;
pub mod metrics;
mod process;
pub mod score;

/// The version of the software, as `/version` and the build information show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
