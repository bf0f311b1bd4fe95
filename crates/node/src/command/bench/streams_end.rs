//! Many quiet streams to one governance node, each on a connection of its own.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_config::{Loaded, NodeConfig};
use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{Epoch, LogId, MessageId, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use alys_stream_protocol::time::SystemClock;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, OutboundRecord, PeerLog, ReceiveCursor,
    ReceiveError, Refusal, Verdict,
};
use alys_stream_transport::grpc::{
    EndpointDriver, EndpointHandle, EndpointParts, NodeIdentity, Unobserved,
};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::end::{self, Order, Orders, Stat};
use crate::command::node::SOFTWARE;
use crate::failure::Failure;

/// Connections that are being made at a time.
const DIALS_MAX: usize = 32;

/// How often it is looked whether they are up.
const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for one step.
const UP_MAX: Duration = Duration::from_secs(240);

/// What they are told on their command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The minted configuration of the node, for certificates
    #[arg(long)]
    config: PathBuf,
    /// Where the governance node listens
    #[arg(long)]
    address: SocketAddr,
}

/// All streams.
struct Streams {
    loaded: Loaded,
    url: String,
    handles: Vec<EndpointHandle>,
    drivers: JoinSet<()>,
    shutdown: CancellationToken,
}

/// Opens streams until the parent has no more orders.
///
/// # Errors
///
/// When the configuration cannot be read, or the streams do not come up.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut streams = Streams {
        loaded: NodeConfig::load(&args.config)?,
        url: format!("https://{}", args.address),
        handles: Vec::new(),
        drivers: JoinSet::new(),
        shutdown: CancellationToken::new(),
    };
    let mut orders = Orders::begin()?;
    while let Some(order) = orders.next().await {
        match order {
            Order::AwaitUp { endpoints } => end::answer(&streams.open(endpoints).await?)?,
            Order::Stat => {
                let accepted = u64::try_from(streams.up()).unwrap_or(u64::MAX);
                end::answer(&Stat { accepted, ..Stat::default() })?;
            }
            other @ (Order::Load(_)
            | Order::Pace(_)
            | Order::Fill { .. }
            | Order::Blast(_)
            | Order::Drain
            | Order::Strike { .. }
            | Order::Heard) => return Err(end::unknown(&other)),
        }
    }
    Ok(())
}

impl Streams {
    fn up(&self) -> usize {
        let is_up = |handle: &&EndpointHandle| {
            matches!(handle.status().borrow().state, StateKind::Streaming | StateKind::Healthy)
        };
        self.handles.iter().filter(is_up).count()
    }

    /// Opens more until there are so many; how long that took, in seconds.
    async fn open(&mut self, wanted: usize) -> Result<f64, Failure> {
        let started = Instant::now();
        loop {
            let up = self.up();
            if up >= wanted {
                return Ok(started.elapsed().as_secs_f64());
            }
            if started.elapsed() > UP_MAX {
                return Err(Failure::unavailable(format_args!("{up} of {wanted} streams are up")));
            }
            while self.handles.len() < wanted.min(up + DIALS_MAX) {
                self.dial()?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn dial(&mut self) -> Result<(), Failure> {
        let Loaded { config, tls, .. } = &self.loaded;
        let number = self.handles.len();
        let endpoint = config.endpoints.first().cloned();
        let mut endpoint = endpoint.ok_or_else(|| Failure::config("no endpoint is configured"))?;
        endpoint.url = self.url.parse().map_err(Failure::config)?;
        let (driver, handle) = EndpointDriver::try_new(EndpointParts {
            config: endpoint,
            identity: NodeIdentity {
                node_id: format!("quiet-{number}"),
                software: SOFTWARE.to_owned(),
                public_key: String::new(),
                node_type: config.node.node_type.into(),
                region: None,
                auth: None,
            },
            tls: tls.clone(),
            exchange: Arc::new(Quiet { log: LogId::new(*MessageId::mint().as_bytes()) }),
            observer: Arc::new(Unobserved),
            clock: Arc::new(SystemClock),
            seed: u64::try_from(number).unwrap_or(0),
            settings: config.transport.settings(),
            shutdown: self.shutdown.clone(),
        })
        .map_err(Failure::config)?;
        self.drivers.spawn(driver.run());
        self.handles.push(handle);
        Ok(())
    }
}

/// One that has nothing to say.
struct Quiet {
    log: LogId,
}

impl Exchange for Quiet {
    fn local(&self) -> LocalLog {
        let (next_seq, settled) = (Seq(1), Settled::NONE);
        LocalLog { log_id: self.log, opening: Epoch(1).into(), next_seq, settled }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        ReceiveCursor::unseen(peer_log)
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        Vec::new()
    }

    fn established(&self, _peer: &PeerLog) -> Result<(), Refusal> {
        Ok(())
    }

    fn established_plain(&self, _peer_id: &str) {}

    fn poll_batch(&self, _budget: Budget) -> Vec<OutboundRecord> {
        Vec::new()
    }

    async fn ready(&self) {
        std::future::pending::<()>().await;
    }

    fn acked(&self, _ack_id: u64, _ranges: &SeqSet) {}

    fn acks_durable(&self) -> u64 {
        0
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, _nack: Nack) {}

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        Ok(records.iter().map(|_| Verdict::Stored).collect())
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {}

    fn gap(&self, _range: RangeInclusive<Seq>, _cause: GapCause, _text: &str) {}

    fn lost(&self) {}
}
