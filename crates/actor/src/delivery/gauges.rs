//! Gauges that are read at a scrape.

use alys_stream_protocol::message::Priority;

use super::Delivery;
use crate::links::Links;

impl Delivery {
    /// Whether there is room for another message.
    pub(crate) fn room(&self) -> Result<(), String> {
        let stat = self.buffer.stat();
        if stat.bytes() >= stat.quota_bytes {
            return Err(format!(
                "the buffer is full: {} of {} bytes are unsettled",
                stat.bytes(),
                stat.quota_bytes
            ));
        }
        Ok(())
    }

    /// Writes the gauges.
    pub(crate) fn refresh_metrics(&self, links: &Links) {
        let now = self.clock.now();
        let stat = self.buffer.stat();
        for priority in Priority::ALL {
            let class = &stat.unsettled[priority.index()];
            let oldest = stat.oldest.map(|(_, at)| now.saturating_since(at));
            self.metrics.buffer(priority.as_str(), class.records, class.bytes, oldest);
        }
        self.metrics.buffer_disk(stat.bytes(), stat.quota_bytes);
        for (endpoint, _) in links.statuses() {
            let name = self.endpoint_name(endpoint);
            let in_flight = u64::try_from(self.in_flight(endpoint)).unwrap_or(u64::MAX);
            let queued = u64::try_from(self.queued(endpoint)).unwrap_or(u64::MAX);
            self.metrics.in_flight(name, in_flight);
            self.metrics.buffer_size(name, "all", in_flight + queued);
        }
    }
}
