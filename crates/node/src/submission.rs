//! The local interface of a node: other processes on the same machine hand over messages, follow
//! them, and see what governance sends.
//!
//! [`server`] maps `alys.node.v1` onto the node's `StreamHandle`; [`client`] is what the subcommands
//! and the demo use. Neither knows anything about delivery.

mod api;
pub(crate) mod client;
pub(crate) mod listen;
pub(crate) mod refusal;
pub(crate) mod server;

pub(crate) use alys_stream_config::SocketSpec as Address;
