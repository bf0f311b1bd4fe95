//! Which states follow each other: the table as a graph, for whoever asks what was exercised.

use super::StateKind;
use StateKind::{
    Authenticating, Connected, Connecting, Critical, Disconnected, Failed, Healthy, Reconnecting,
    Streaming, Suspended, Warning,
};

/// Every pair of states that the table leads from and to; a test walks the table for it.
pub const EDGES: [(StateKind, StateKind); 35] = [
    (Disconnected, Connecting),
    (Connecting, Disconnected),
    (Connecting, Authenticating),
    (Connecting, Failed),
    (Authenticating, Disconnected),
    (Authenticating, Connected),
    (Authenticating, Failed),
    (Connected, Disconnected),
    (Connected, Streaming),
    (Connected, Critical),
    (Connected, Suspended),
    (Streaming, Disconnected),
    (Streaming, Connected),
    (Streaming, Healthy),
    (Streaming, Critical),
    (Healthy, Disconnected),
    (Healthy, Connected),
    (Healthy, Streaming),
    (Healthy, Warning),
    (Healthy, Critical),
    (Warning, Disconnected),
    (Warning, Connected),
    (Warning, Healthy),
    (Warning, Critical),
    (Critical, Disconnected),
    (Critical, Connected),
    (Critical, Warning),
    (Critical, Reconnecting),
    (Reconnecting, Disconnected),
    (Reconnecting, Connecting),
    (Failed, Disconnected),
    (Failed, Connecting),
    (Suspended, Disconnected),
    (Suspended, Connected),
    (Suspended, Critical),
];
