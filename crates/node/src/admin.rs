//! What the admin port of a node shows.

use alys_stream_actor::StreamHandle;
use alys_stream_telemetry::admin::AdminSource;
use serde_json::Value;
use tokio::sync::watch;

use crate::command::node::reload::InForce;

/// The node behind the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    handle: StreamHandle,
    config: watch::Receiver<InForce>,
}

impl Admin {
    /// Shows the node behind `handle`, and the configuration that is in force there.
    pub(crate) const fn new(handle: StreamHandle, config: watch::Receiver<InForce>) -> Self {
        Self { handle, config }
    }
}

impl AdminSource for Admin {
    fn status(&self) -> Value {
        let mut status = serde_json::to_value(self.handle.status())
            .unwrap_or_else(|error| Value::String(error.to_string()));
        if let Some(status) = status.as_object_mut() {
            status.insert("config".to_owned(), self.config.borrow().status());
        }
        status
    }

    fn ready(&self) -> Result<(), String> {
        self.handle.ready()
    }

    fn config(&self) -> Value {
        self.config.borrow().shown.clone()
    }

    fn refresh(&self) {
        self.handle.refresh_metrics();
    }
}
