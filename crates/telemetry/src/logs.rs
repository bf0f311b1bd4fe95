//! Log lines, to standard error.
//!
//! Not a log of messages: what was delivered is in the buffer and in the metrics. Standard output
//! belongs to the commands, whose results other programs read.
//!
//! Lines with the target [`AUDIT`] are there whatever the filter says: who looks for what was done to
//! dead letters must not depend on how much else was of interest.

use std::fmt;
use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry};

/// The target of lines that tell what operators did, and what was lost or refused for good.
pub const AUDIT: &str = "alys_stream::audit";

/// How the process logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or a
    /// comma-separated list of `target=level`. Default `info`. A chattier level costs a
    /// formatted line per event; `debug` logs every frame and is not for production. Audit lines
    /// ([`AUDIT`]) are logged in any case.
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
    let subscriber = subscriber(config, io::stderr, io::stderr().is_terminal())?;
    subscriber.try_init().map_err(|_| LogError::AlreadyStarted)
}

fn subscriber<W>(
    config: &LogConfig,
    writer: W,
    is_terminal: bool,
) -> Result<impl Subscriber + Send + Sync + use<W>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(is_terminal).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let audit = filter_fn(|event| event.target() == AUDIT).with_max_level_hint(LevelFilter::INFO);
    Ok(Registry::default().with(lines.with_filter(config.parse_filter()?.or(audit))))
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
    use std::sync::{Arc, Mutex};

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

    /// What is written by then, to be looked at.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn audit_lines_are_there_whatever_the_filter_says() {
        for filter in ["info", "warn", "off", "alys_stream::audit=off", "info,alys_stream=error"] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let written = Written::default();
                let writer = written.clone();
                let config = LogConfig { filter: filter.to_owned(), format };
                let subscriber = subscriber(&config, move || writer.clone(), false).unwrap();
                tracing::subscriber::with_default(subscriber, || {
                    tracing::info!(target: AUDIT, action = "purge", "dead letters");
                    tracing::debug!(target: AUDIT, "not this one");
                    tracing::info!(target: "alys_stream::other", "as the filter says");
                });
                let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
                assert_eq!(text.matches("purge").count(), 1, "{filter} {format}: {text}");
                assert!(!text.contains("not this one"), "{filter} {format}: {text}");
                let is_wanted = filter == "info";
                assert_eq!(text.contains("as the filter"), is_wanted, "{filter} {format}: {text}");
            }
        }
    }
}
