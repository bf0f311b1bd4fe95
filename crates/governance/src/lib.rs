//! A governance node that really signs: for demonstrations, tests, load and local development.
//!
//! The other side of an Alys node's link: it takes custody of what nodes send, applies each message
//! once, signs Bitcoin transactions with the federation keys it holds, and pushes what governance
//! decides. It speaks both dialects, the session `alys.stream.v1` and plain `governance.v1`.
//! It knows nothing about actors, endpoints, routes and retries: those belong to the side that dials.
//!
//! In reading order:
//!
//! - [`config`]: what it is told.
//! - [`server`]: what it opens, in which order, and how it stops.
//! - `custody`: stored, then acknowledged, then applied once; [`ledger`] remembers what was applied.
//! - `engine`: applies and answers; [`answers`] says when, [`member`] signs with [`keys`].
//! - `session` and `plain`: one conversation in each dialect; `conversation` and `reply` are the
//!   pure part of the plain one.
//! - `outbound` and `push`: what is owed to nodes.
//! - [`misbehaviour`]: what it can be told to do wrong.
//! - `admin`: how to see it and tell it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use alys_stream_governance::{GovernanceConfig, GovernanceNode};
//!
//! let config = GovernanceConfig::load("gov-1.yaml".as_ref())?;
//! let drain = config.drain;
//! let mut running = GovernanceNode::start(config).await?;
//! let reason = running.stopped().await;
//! running.shutdown(drain).await;
//! # drop(reason);
//! # Ok(())
//! # }
//! ```

pub mod answers;
pub mod config;
pub mod keys;
pub mod ledger;
pub mod member;
pub mod misbehaviour;
pub mod server;

mod admin;
mod content;
mod conversation;
mod custody;
mod desk;
mod engine;
mod files;
mod governance_server;
mod intake;
mod metrics;
mod outbound;
mod peers;
mod plain;
mod push;
mod reply;
mod session;
mod session_server;
mod streams;
mod sync;

pub use config::{ConfigError, GovernanceConfig};
pub use ledger::{LedgerError, read_ledger};
pub use server::{Entrance, GovernanceNode, Ground, Running, StartError, StartErrorKind};
