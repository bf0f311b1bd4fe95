//! Gauges that are read at a scrape.

use std::time::Duration;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;
use alys_stream_telemetry::metrics::{GovernedGauges, StreamType};
use alys_stream_telemetry::score;
use alys_stream_transport::balance::BalanceConfig;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::grpc::EndpointStatus;

use super::{Delivery, LaneName};
use crate::links::Links;
use crate::tally::Tally;
use crate::trust;

/// How much of the backlog is in memory.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct OutboxFill {
    /// Messages in memory one by one; the others are bits.
    pub(crate) resident: u64,
    /// Refused ones that wait for their next attempt.
    pub(crate) retrying: u64,
    /// Those that are being read back.
    pub(crate) loading: u64,
    /// Signature requests whose answers are collected in memory.
    pub(crate) collecting: u64,
    /// Messages that somebody waits for.
    pub(crate) followed: u64,
}

impl Delivery {
    pub(crate) fn outbox_fill(&self) -> OutboxFill {
        let state = self.lock();
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        OutboxFill {
            resident: number(state.outbox.resident()),
            retrying: number(state.outbox.retrying()),
            loading: number(state.wanted.iter().map(Vec::len).sum::<usize>()),
            collecting: number(state.collector.open_count()),
            followed: number(state.followed.len()),
        }
    }

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

    /// Lets the balancer judge every endpoint by what it really has not acknowledged.
    pub(crate) fn judge_endpoints(&self) {
        let ids = (0..self.endpoints.len()).filter_map(|id| u16::try_from(id).ok()).map(EndpointId);
        // Counted before: the outbox asks the balancer under the lock that counting takes.
        let owed: Vec<_> = ids.map(|id| (id, self.in_flight(id))).collect();
        self.balancer.handle_timeout(owed.into_iter());
    }

    /// Chooses endpoints in another way from now on; who is ejected by the old one alone returns.
    pub(crate) fn set_balance(&self, config: BalanceConfig) {
        self.balancer.set_config(config);
        self.judge_endpoints();
        let mut state = self.lock();
        self.pump(&mut state);
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
        self.watch_letters(now);
        self.judge_endpoints();
        let outbox = self.outbox_fill();
        self.metrics.outbox(outbox.resident, outbox.retrying);
        self.refresh_governed();
        if let Some(tls) = links.tls_status() {
            self.metrics.tls(&trust::gauges(&tls));
        }
        for (endpoint, status) in links.statuses() {
            let name = self.endpoint_name(endpoint);
            let in_flight = u64::try_from(self.in_flight(endpoint)).unwrap_or(u64::MAX);
            let queued = u64::try_from(self.queued(endpoint)).unwrap_or(u64::MAX);
            self.metrics.in_flight(name, in_flight);
            self.metrics.credits(name, status.credit_messages, status.credit_bytes);
            if let Some(view) = self.balancer.view(endpoint) {
                self.metrics.ejected(name, view.ejected.is_some());
            }
            self.metrics.buffer_size(name, "all", in_flight + queued);
            // The last one that was shown stays: one that keeps a peer away is worth a look.
            if let Some(expires_at) = status.certificate_expires_at {
                self.metrics.peer_certificate(name, expires_at);
            }
            if let Some(tally) = self.tally(endpoint) {
                self.refresh_scores(name, tally, &status, now);
            }
        }
    }

    fn refresh_governed(&self) {
        if let Some(federation) = &self.duties.federation {
            self.metrics.governed(&GovernedGauges {
                version: federation.in_force().borrow().version.0,
                scheduled: u64::try_from(federation.scheduled().len()).unwrap_or(u64::MAX),
                is_halted: federation.halted().borrow().is_some(),
            });
        }
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        for lane in LaneName::ALL {
            self.metrics.pushed_waiting(lane.as_str(), number(self.duties.waiting(lane)));
        }
        for (target, in_flight) in self.neighbours.in_flight() {
            self.metrics.mailbox_depth(target, number(in_flight));
        }
    }

    /// The two scores that dashboards show, by the formulas of [`score`].
    fn refresh_scores(&self, name: &str, tally: &Tally, status: &EndpointStatus, now: UnixMillis) {
        let quality = match status.state {
            StateKind::Healthy => 1.0,
            StateKind::Streaming | StateKind::Suspended => 0.8,
            StateKind::Warning => 0.5,
            StateKind::Critical => 0.2,
            StateKind::Disconnected
            | StateKind::Connecting
            | StateKind::Authenticating
            | StateKind::Connected
            | StateKind::Reconnecting
            | StateKind::Failed => 0.0,
        };
        let (fresh, uptime) = if status.is_live() {
            (1.0, now.saturating_since(UnixMillis(status.since_ms)))
        } else {
            (0.0, Duration::ZERO)
        };
        self.metrics.endpoint_health(name, score::endpoint_health(quality, fresh, uptime));
        // 1 at no delay, 0 from one second on.
        let latency = status.rtt_us.map_or(0.0, |rtt| {
            let seconds = Duration::from_micros(rtt).as_secs_f64();
            (1.0 - seconds).clamp(0.0, 1.0)
        });
        let stream = score::stream_quality(tally.error_rate(), latency, uptime);
        for kind in [StreamType::Consensus, StreamType::Attestations, StreamType::ChainData] {
            self.metrics.stream_quality(name, kind, stream);
        }
        if let Some(rate) = tally.correlation_rate() {
            self.metrics.signature_correlation_rate(name, rate);
        }
    }
}
