//! The operator's side of a node's local interface: how it is, and its dead letters, seen and acted
//! upon.
//!
//! [`server`] maps `OperatorService` onto the node's `StreamHandle`, beside the submission interface
//! and on its socket; [`client`] is what `alys-stream dlq` and `endpoints` use; [`wire`] turns dead
//! letters into what both carry. None of them decides anything.

mod api;
pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod wire;
