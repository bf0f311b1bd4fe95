//! Log lines, to standard error.
//!
//! Not a log of messages: what was delivered is in the buffer and in the metrics. Standard output
//! belongs to the commands, whose results other programs read.

use std::fmt;
use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How the process logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or a
    /// comma-separated list of `target=level`. Default `info`. A chattier level costs a
    /// formatted line per event; `debug` logs every frame and is not for production.
    pub filter: String,
    /// How a line looks. Default `text`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// For collectors: one JSON object per line, with the fields of the event at its top.
    Json,
}

/// Logging cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "{filter:?} is not a log filter ({cause}): give a level such as \"info\", \
         or a list such as \"info,alys_stream_transport=debug\""
    )]
    Filter {
        /// What was configured.
        filter: String,
        /// What the parser says.
        cause: String,
    },
    /// Something else in this process logs already.
    #[error("logging was already started in this process: start it once, in main")]
    AlreadyStarted,
}

impl LogConfig {
    /// Checks the filter without starting anything.
    ///
    /// # Errors
    ///
    /// When the filter does not parse.
    pub fn validate(&self) -> Result<(), LogError> {
        self.parse_filter().map(drop)
    }

    fn parse_filter(&self) -> Result<EnvFilter, LogError> {
        EnvFilter::builder().parse(&self.filter).map_err(|cause| LogError::Filter {
            filter: self.filter.clone(),
            cause: cause.to_string(),
        })
    }
}

/// Sends the events of this process to standard error from now on. Called once, in `main`.
///
/// # Errors
///
/// When the filter does not parse, or logging was started before.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let builder =
        tracing_subscriber::fmt().with_env_filter(config.parse_filter()?).with_writer(io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LogError::AlreadyStarted)
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(filter: &str, expected: Expect) {
        let config = LogConfig { filter: filter.to_owned(), ..LogConfig::default() };
        let actual = config.validate().map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        expected.assert_eq(&actual);
    }

    #[test]
    fn filters_are_checked() {
        check("info", expect!["ok"]);
        check("warn,alys_stream_transport=debug", expect!["ok"]);
        check("off", expect!["ok"]);
        check(
            "alys_stream_transport=loud",
            expect![[
                r#""alys_stream_transport=loud" is not a log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5): give a level such as "info", or a list such as "info,alys_stream_transport=debug""#
            ]],
        );
    }
}
