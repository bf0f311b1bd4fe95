//! Looks at the node from outside, as an operator would: its status and its memory.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::http;

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Every so many looks, memory is read too.
const LOOKS_PER_SCRAPE: u32 = 10;

/// The gauge with the memory of the process.
const RSS: &str = "alys_stream_process_resident_memory_bytes";

/// What the node said when it last answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    /// The endpoints, as `/status` lists them.
    pub(crate) endpoints: Vec<Value>,
    /// The most memory it was seen to use, in bytes.
    pub(crate) rss_bytes_max: u64,
    /// Whether it answered the last time.
    pub(crate) answers: bool,
}

impl Sight {
    /// Name and state of each endpoint.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, &str)> {
        self.endpoints.iter().map(|endpoint| (text(endpoint, "name"), text(endpoint, "state")))
    }

    /// Whether frames flow to and from this endpoint.
    pub(crate) fn is_up(&self, name: &str) -> bool {
        let flows = ["streaming", "healthy", "warning"];
        self.answers
            && self.states().any(|(endpoint, state)| {
                endpoint == name && flows.iter().any(|word| state.eq_ignore_ascii_case(word))
            })
    }

    /// Whether frames flow to and from all endpoints, of which there are `count`.
    pub(crate) fn all_up(&self, count: usize) -> bool {
        self.endpoints.len() == count && self.states().all(|(name, _)| self.is_up(name))
    }
}

fn text<'a>(endpoint: &'a Value, field: &str) -> &'a str {
    endpoint.get(field).and_then(Value::as_str).unwrap_or("?")
}

/// Looks until nobody wants to know any more.
pub(crate) async fn run(admin: String, sight: watch::Sender<Sight>) {
    let mut looks = 0_u32;
    while !sight.is_closed() {
        let status = http::get(&admin, "/status").await.ok();
        let status: Option<Value> = status.and_then(|text| serde_json::from_str(&text).ok());
        let rss =
            if looks.is_multiple_of(LOOKS_PER_SCRAPE) { resident(&admin).await } else { None };
        sight.send_modify(|sight| {
            sight.answers = status.is_some();
            sight.rss_bytes_max = sight.rss_bytes_max.max(rss.unwrap_or(0));
            if let Some(Value::Array(endpoints)) = status.as_ref().and_then(|s| s.get("endpoints"))
            {
                sight.endpoints.clone_from(endpoints);
            }
        });
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn resident(admin: &str) -> Option<u64> {
    gauge(&http::get(admin, "/metrics").await.ok()?, RSS)
}

/// The value of a gauge without labels in Prometheus text.
fn gauge(metrics: &str, name: &str) -> Option<u64> {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .find_map(|rest| rest.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gauges() {
        let text = "# TYPE alys_stream_process_resident_memory_bytes gauge\n\
                    alys_stream_process_resident_memory_bytes 12345\n";
        assert_eq!(gauge(text, RSS), Some(12_345));
        assert_eq!(gauge("", RSS), None);
    }

    #[test]
    fn up_means_that_frames_flow() {
        let sight = Sight {
            endpoints: vec![
                json!({ "name": "a", "state": "Healthy" }),
                json!({ "name": "b", "state": "reconnecting" }),
            ],
            answers: true,
            ..Sight::default()
        };
        assert!(sight.is_up("a") && !sight.is_up("b") && !sight.is_up("c"));
        assert!(!sight.all_up(2));
    }
}
