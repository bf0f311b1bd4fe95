//! A governance node over real sockets and real files, in both dialects.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod client;
mod copies;
mod floods;
mod ledger;
mod limits;
mod memory;
mod plain;
mod requests;
mod session;
mod start;
mod tls;
mod world;
