//! What the admin port of a node shows.

use alys_stream_actor::StreamHandle;
use alys_stream_telemetry::admin::AdminSource;
use serde_json::Value;

/// The node behind the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    handle: StreamHandle,
    config: Value,
}

impl Admin {
    /// Shows the node behind `handle`, which was started with `config` (without secrets).
    pub(crate) const fn new(handle: StreamHandle, config: Value) -> Self {
        Self { handle, config }
    }
}

impl AdminSource for Admin {
    fn status(&self) -> Value {
        serde_json::to_value(self.handle.status())
            .unwrap_or_else(|error| Value::String(error.to_string()))
    }

    fn ready(&self) -> Result<(), String> {
        self.handle.ready()
    }

    fn config(&self) -> Value {
        self.config.clone()
    }

    fn refresh(&self) {
        self.handle.refresh_metrics();
    }
}
