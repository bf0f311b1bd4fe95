//! The end of an actor, as a failure that is classified, reported and kept like any other.

use super::TreePath;
use crate::failure::{Classified, FailureKind};

/// An actor of the tree ended without being told to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("actor {actor} ended: {reason}")]
pub(crate) struct ActorDied {
    actor: String,
    reason: String,
}

impl ActorDied {
    pub(crate) fn new(path: &TreePath, reason: &str) -> Self {
        Self { actor: path.as_str().to_owned(), reason: reason.to_owned() }
    }
}

impl Classified for ActorDied {
    fn kind(&self) -> FailureKind {
        FailureKind::ActorDied
    }
}
