//! Every time series of a node.
//!
//! Methods are named for events and take label values as they are. The names and labels under
//! `alys_governance_` and `alys_federation_` are what existing dashboards query and never change;
//! everything else is under `alys_stream_`.
//!
//! Not a global registry (T2): whoever composes the layers makes one [`Metrics`] and shares it.
//! A series appears with its first event; plain counters are there from the start, at zero.

mod backlog;
mod family;
mod governed;
mod guard;
mod label;
mod link;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod traffic;

use std::sync::Mutex;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use self::backlog::{LettersBound, LettersFill};
pub use self::governed::GovernedGauges;
pub use self::guard::TlsGauges;
pub use self::label::{BreakerPosition, ConnectionStatus, StreamType};
pub use self::settings::ConfigGauges;
pub use self::text::Exposition;

/// Every family of the node. Shared as `Arc<Metrics>`; all methods take `&self` and never wait
/// for more than another event on the same family.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    link: link::Link,
    traffic: traffic::Traffic,
    stream: stream::Stream,
    backlog: backlog::Backlog,
    governed: governed::Governed,
    guard: guard::Guard,
    settings: settings::Settings,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every family.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let link = link::Link::register(&mut registry);
        let traffic = traffic::Traffic::register(&mut registry);
        let stream = stream::Stream::register(&mut registry);
        let backlog = backlog::Backlog::register(&mut registry);
        let governed = governed::Governed::register(&mut registry);
        let guard = guard::Guard::register(&mut registry);
        let settings = settings::Settings::register(&mut registry);
        stream::register_build(&mut registry);
        registry.register_collector(Box::new(crate::process::Process));
        let registry = Mutex::new(registry);
        Self { registry, link, traffic, stream, backlog, governed, guard, settings }
    }

    /// The whole exposition, in `OpenMetrics` text, with fresh numbers of the process.
    ///
    /// # Panics
    ///
    /// When a scrape panicked before: nothing in one can.
    #[must_use]
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().expect("invariant T2: encoding does not panic");
        let mut text = String::with_capacity(16 * 1024);
        encode(&mut text, &registry).expect("invariant: writing to a String cannot fail");
        text
    }
}
