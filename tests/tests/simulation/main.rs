//! Partitions, loss in one direction, delay and storms of reconnects, in virtual time.
//!
//! The dial, TLS, HTTP/2, gRPC, the connection machine, the session driver on both sides, the
//! breaker, the outbox and the balancer are those of the product. The network is turmoil's: what is
//! lost is lost for ever, as when TCP gives up; what is held comes later, as when TCP sends again.
//! Logs are in memory: the threads that write them know no virtual time.
//!
//! One seed makes one run; [`determinism`] holds that. The bounds are the documented ones of
//! `transport::grpc`, with the defaults of every setting.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "seeds and figures are shown")]

mod balancing;
mod certificates;
mod cycles;
mod determinism;
mod network;
mod node;
mod owner;
mod partitions;
mod peer;
mod service;
mod shelf;
mod storms;
mod wire;
mod world;
