//! The primitives that the hand-off is made of, named in one place: a model checker compiles the
//! same hand-off over its own.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
