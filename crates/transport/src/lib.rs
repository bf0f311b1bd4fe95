//! Connections to governance nodes: kept alive, or the exact reason why not.
//!
//! This crate knows nothing about logs on disk, queues, routes, actors or keys: it carries records
//! between an [`exchange::Exchange`], which owns them, and a peer. Everything that decides is a
//! pure machine (`handle_*` in, `poll_*` out); everything that waits is a driver.
//!
//! In reading order:
//!
//! - [`endpoint`]: a configured governance address.
//! - [`exchange`]: what a session needs from whoever owns the messages.
//! - [`connection`]: the life of one connection: eleven states, every edge. Pure.
//! - [`reconnect`]: when to dial again. Pure.
//! - [`balance`]: which endpoint gets the next message that any may have. Pure.
//! - [`health`]: heartbeats, round-trip time, quality. Pure.
//! - [`session`]: the delivery session `alys.stream.v1`, symmetric after the handshake. Pure, with
//!   its driver in [`session::driver`].
//! - [`plain`]: peers that speak only `governance.v1`. Pure.
//! - [`tls`]: TLS 1.3 configurations from PEM, and who the peer is.
//! - [`grpc`]: the driver of an endpoint: dial, choose the dialect, run the stream, report.

pub mod balance;
pub mod connection;
pub mod endpoint;
pub mod exchange;
pub mod grpc;
pub mod health;
pub mod plain;
pub mod reconnect;
pub mod session;
pub mod tls;
mod window;

/// Takes a lock whose holders do not panic; a poisoned one still holds a usable value, because
/// every machine is changed by one call at a time.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Free text of a peer, cut to its bound at a character border.
pub(crate) fn bounded(mut text: String) -> String {
    let end = text.floor_char_boundary(alys_stream_protocol::limits::TEXT_BYTES_MAX);
    text.truncate(end);
    text
}
