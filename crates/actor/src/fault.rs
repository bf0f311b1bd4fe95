//! Where tests make actors panic.
//!
//! Every actor of the tree says here which message it is about to handle. Nothing is behind it,
//! and it costs one comparison, unless somebody asked for faults.

use std::fmt;
use std::sync::Arc;

/// Called with the path of an actor and the message that it is about to handle; may panic.
type Fault = dyn Fn(&str, &str) + Send + Sync;

/// Faults to be injected; none by default. Cheap to clone.
#[derive(Clone, Default)]
pub struct FaultPoints(Option<Arc<Fault>>);

impl fmt::Debug for FaultPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultPoints").field(&self.0.is_some()).finish()
    }
}

impl FaultPoints {
    /// Calls this with the path of an actor, such as `root/system/stream`, and the name of the
    /// message that it is about to handle. A panic in it is a panic of that actor.
    #[must_use]
    pub fn new(fault: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(fault)))
    }

    /// An actor is about to handle a message.
    pub(crate) fn reach(&self, actor: &str, message: &str) {
        if let Some(fault) = &self.0 {
            fault(actor, message);
        }
    }
}
