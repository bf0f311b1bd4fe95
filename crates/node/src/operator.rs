//! The operator's side of a node's local interface: dead letters, seen and acted upon.
//!
//! [`server`] maps `OperatorService` onto the node's `StreamHandle`, beside the submission interface
//! and on its socket; [`client`] is what `alys-stream dlq` uses; [`wire`] turns dead letters into
//! what both carry. None of them decides anything.

mod api;
pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod wire;
