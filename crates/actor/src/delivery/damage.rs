//! What a start could not read back, of the buffer and of the stores beside it: logged, counted, and
//! kept for the status (D5).
//!
//! Not here: what is told to peers about the buffer (`holes`), and the history of the federation, on
//! whose damage nothing starts.

use alys_stream_messaging::buffer::Recovered;
use alys_stream_messaging::log::{Gap, GapCause, Recovery};
use alys_stream_telemetry::metrics::Metrics;

/// Something that was in a store and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreGap {
    /// The name of its folder in the data directory.
    pub(crate) store: &'static str,
    /// What and where.
    pub(crate) gap: Gap,
}

/// What the stores beside the buffer could not read when they were opened.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub(super) gaps: Vec<StoreGap>,
}

impl Damage {
    /// A store was opened.
    pub(super) fn add(&mut self, store: &'static str, recovery: &Recovery) {
        if let Some(tail) = recovery.torn_tail {
            tracing::warn!(
                store, segment = %tail.segment, offset = tail.offset,
                "the end of a store was cut off: an unfinished write of a crash, which nobody was \
                 told of, or damage to the newest entries"
            );
        }
        self.add_gaps(store, &recovery.gaps);
    }

    /// The same for one that is known by its gaps alone.
    pub(super) fn add_gaps(&mut self, store: &'static str, gaps: &[Gap]) {
        self.gaps.extend(gaps.iter().map(|gap| StoreGap { store, gap: gap.clone() }));
    }

    /// Tells operators what is missing, of the buffer too.
    pub(super) fn report(&self, buffer: &Recovered, metrics: &Metrics) {
        if let Some(tail) = buffer.torn_tail {
            tracing::warn!(
                segment = %tail.segment, offset = tail.offset,
                "the end of the buffer was cut off: an unfinished write of a crash, which nobody \
                 was told of, or damage to the newest records"
            );
        }
        for gap in &buffer.gaps {
            tracing::error!(?gap, "the buffer has a gap");
            count(gap.cause, metrics);
        }
        for StoreGap { store, gap } in &self.gaps {
            tracing::error!(
                store, segment = %gap.segment, offset = gap.offset, ?gap,
                "a store has a gap; the rest of it is readable"
            );
            count(gap.cause, metrics);
        }
    }
}

fn count(cause: GapCause, metrics: &Metrics) {
    metrics.gap();
    match cause {
        GapCause::Damaged => metrics.corruption(),
        GapCause::Missing => {}
    }
}
