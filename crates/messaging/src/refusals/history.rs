//! What is known of the refusals of one message.

use alys_stream_protocol::time::UnixMillis;

use crate::outbox::Attempt;

/// Every refusal of one message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How the message stands with each endpoint that refused it.
    pub endpoints: Vec<EndpointHistory>,
    /// Every refusal, in order.
    pub attempts: Vec<Attempt>,
}

impl History {
    /// Whether nobody refused the message.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.attempts.is_empty()
    }

    /// How the message stands with an endpoint, if that refused it.
    #[must_use]
    pub fn of(&self, endpoint: &str) -> Option<&EndpointHistory> {
        self.endpoints.iter().find(|history| history.endpoint == endpoint)
    }
}

/// How a message stands with one endpoint that refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHistory {
    /// The name of the endpoint: ids do not outlive a process.
    pub endpoint: String,
    /// How often it refused.
    pub refusals: u32,
    /// Whether it is asked again.
    pub standing: Standing,
}

/// Whether an endpoint that refused a message is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not before a time.
    Waiting {
        /// That time.
        due: UnixMillis,
    },
    /// Never.
    Final,
}
