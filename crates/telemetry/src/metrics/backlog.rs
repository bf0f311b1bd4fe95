//! What waits: the part of the backlog that is in memory, and the dead letters with their bounds.
//!
//! Both are bounded (D7), and what nears a bound shows here before anything is lost to it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{Counters, Fractions, Gauges, registered, whole};

/// What an alert looks at, by the bound that is near.
const BOUNDS: [&str; 2] = [LettersBound::Bytes.as_str(), LettersBound::Age.as_str()];

/// A bound of the store of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LettersBound {
    /// How many bytes there may be.
    Bytes,
    /// How old they may get.
    Age,
}

impl LettersBound {
    /// The word in labels and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Age => "age",
        }
    }
}

/// How full the store of dead letters is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LettersFill {
    /// How many there are.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes there may be.
    pub bytes_max: u64,
    /// Age of the oldest one.
    pub oldest_age: Option<Duration>,
    /// Whether some go soon because there are too many bytes.
    pub is_nearly_full: bool,
    /// Whether some go soon because they are too old.
    pub is_nearly_too_old: bool,
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Backlog {
    resident: Gauge,
    retrying: Gauge,
    loaded: Counter,
    letters: Gauge,
    letter_bytes: Gauge,
    letter_bytes_max: Gauge,
    letter_oldest_age: Fractions<0>,
    letters_nearly_full: Gauges<1>,
    letters_dropped: Counters<1>,
}

impl Backlog {
    pub(super) fn register(r: &mut Registry) -> Self {
        let this = Self {
            resident: plain(
                r,
                "outbox_resident_messages",
                "Unsettled messages that are in memory one by one; the others are bits",
            ),
            retrying: plain(
                r,
                "outbox_retrying_messages",
                "Refused messages that wait for their next attempt",
            ),
            loaded: plain(
                r,
                "outbox_loaded_messages",
                "Messages that were read back from the log when their turn came",
            ),
            letters: plain(r, "dead_letters_stored", "Dead letters on disk"),
            letter_bytes: plain(
                r,
                "dead_letters_bytes",
                "Bytes of the dead letters on disk, at least 4 KiB each",
            ),
            letter_bytes_max: plain(
                r,
                "dead_letters_max_bytes",
                "How many bytes there may be before the oldest are dropped for good",
            ),
            letter_oldest_age: Fractions::register(
                r,
                "alys_stream_dead_letters_oldest_age_seconds",
                [],
                "Time since the oldest of the dead letters died, 0 when there is none",
            ),
            letters_nearly_full: Gauges::register(
                r,
                "alys_stream_dead_letters_nearly_full",
                ["bound"],
                "1 when the oldest are dropped for good before long: replay, export or purge some",
            ),
            letters_dropped: Counters::register(
                r,
                "alys_stream_dead_letters_dropped",
                ["reason"],
                "Dead letters that a bound dropped for good",
            ),
        };
        // There from the start: an alert on something that is absent never fires.
        for bound in BOUNDS {
            this.letters_nearly_full.set([bound], 0);
            this.letters_dropped.add([bound], 0);
        }
        this
    }
}

fn plain<M>(r: &mut Registry, suffix: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    registered(r, &format!("alys_stream_{suffix}"), help, M::default())
}

/// What waits, and how near it is to its bounds.
impl Metrics {
    /// Of the unsettled messages, those in memory one by one, and those that wait for a retry.
    pub fn outbox(&self, resident: u64, retrying: u64) {
        self.backlog.resident.set(whole(resident));
        self.backlog.retrying.set(whole(retrying));
    }

    /// So many messages of the backlog were read back.
    pub fn loaded(&self, messages: u64) {
        self.backlog.loaded.inc_by(messages);
    }

    /// How full the store of dead letters is.
    pub fn letters(&self, fill: &LettersFill) {
        let LettersFill { count, bytes, bytes_max, oldest_age, is_nearly_full, is_nearly_too_old } =
            *fill;
        self.backlog.letters.set(whole(count));
        self.backlog.letter_bytes.set(whole(bytes));
        self.backlog.letter_bytes_max.set(whole(bytes_max));
        self.backlog.letter_oldest_age.set_seconds([], oldest_age.unwrap_or_default());
        for (bound, is_near) in
            [(LettersBound::Bytes, is_nearly_full), (LettersBound::Age, is_nearly_too_old)]
        {
            self.backlog.letters_nearly_full.set([bound.as_str()], u64::from(is_near));
        }
    }

    /// A bound dropped dead letters for good.
    pub fn letters_dropped(&self, bound: LettersBound, letters: u64) {
        self.backlog.letters_dropped.add([bound.as_str()], letters);
    }
}
