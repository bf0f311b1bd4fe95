//! The end that accepts and sends.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::log::GroupLog;
use super::{
    Args, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, CONNECTION_WINDOW, FAR_NAME, FRAME_BYTES,
    METHOD, Record, STREAM_WINDOW, codec,
};
use crate::failure::Failure;

/// Longest wait for the far end to listen.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(20);

/// What is accepted, sent and acknowledged.
#[derive(Clone)]
pub(in crate::command::bench) struct NearEnd {
    log: GroupLog<Record>,
    queue: Arc<Queue>,
    accepted: Arc<AtomicU64>,
    acked: watch::Receiver<u64>,
    is_stored: bool,
    ids: Arc<AtomicU64>,
    /// Owns the task that reads acknowledgements.
    _reader: Arc<JoinSet<()>>,
}

impl NearEnd {
    /// Connects to the far end.
    ///
    /// # Errors
    ///
    /// When a certificate or the log cannot be used, or the far end is not there.
    pub(in crate::command::bench) async fn start(args: &Args) -> Result<Self, Failure> {
        let channel = connect(args).await?;
        let queue = Arc::new(Queue::default());
        let durable = Arc::clone(&queue);
        let log = GroupLog::create(args.log.as_deref(), move |records| durable.push(records))?;
        let (told, acked) = watch::channel(0);
        let failed = |error: &dyn std::fmt::Display| {
            Failure::unavailable(format_args!("the bare stream: {error}"))
        };
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| failed(&error))?;
        let source = tonic::Request::new(Source { queue: Arc::clone(&queue), next: 0 });
        let path = PathAndQuery::from_static(METHOD);
        let answer = grpc.streaming(source, path, codec::Near).await;
        let mut acks = answer.map_err(|error| failed(&error))?.into_inner();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Ok(Some(end)) = acks.message().await {
                told.send_replace(end);
            }
        });
        Ok(Self {
            log,
            queue,
            accepted: Arc::default(),
            acked,
            is_stored: args.log.is_some(),
            ids: Arc::default(),
            _reader: Arc::new(reader),
        })
    }

    /// Accepts records: durable when this returns, where there is a log. Gives how many were accepted
    /// in all, these included.
    pub(in crate::command::bench) async fn send(&self, payloads: Vec<Bytes>) -> u64 {
        let count = u64::try_from(payloads.len()).unwrap_or(0);
        let first = self.ids.fetch_add(count, Ordering::Relaxed);
        let records = payloads.into_iter().zip(first..).map(|(payload, id)| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&id.to_be_bytes());
            Record { id: bytes, payload }
        });
        if !self.is_stored {
            let end = self.accepted.fetch_add(count, Ordering::Relaxed) + count;
            self.queue.push(records.collect());
            return end;
        }
        let mut end = 0;
        let group = self.log.append(|bytes, entries| {
            for record in records {
                write(bytes, &record);
                entries.push(record);
            }
            // Counted in the order of the log.
            end = self.accepted.fetch_add(count, Ordering::Relaxed) + count;
        });
        group.durable().await;
        end
    }

    /// Accepted and not acknowledged.
    pub(in crate::command::bench) fn owed(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed).saturating_sub(*self.acked.borrow())
    }

    /// Everything below is acknowledged.
    pub(in crate::command::bench) fn acked(&self) -> watch::Receiver<u64> {
        self.acked.clone()
    }

    /// How often its log synced.
    pub(in crate::command::bench) fn syncs(&self) -> u64 {
        self.log.syncs()
    }
}

/// The bytes of a record in a log: length, id, payload.
pub(super) fn write(bytes: &mut Vec<u8>, record: &Record) {
    let length = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&record.id);
    bytes.extend_from_slice(&record.payload);
}

async fn connect(args: &Args) -> Result<Channel, Failure> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::unavailable(format_args!("the far end at {}: {error}", args.address))
    };
    let give_up = Instant::now() + CONNECT_MAX;
    let tcp = loop {
        match TcpStream::connect(args.address).await {
            Ok(tcp) => break tcp,
            Err(error) if Instant::now() > give_up => return Err(unusable(&error)),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    tcp.set_nodelay(true).map_err(|error| unusable(&error))?;
    let connector = tokio_rustls::TlsConnector::from(args.client()?);
    let name = ServerName::try_from(FAR_NAME).map_err(|error| unusable(&error))?;
    let tls = connector.connect(name, tcp).await.map_err(|error| unusable(&error))?;
    let endpoint = Endpoint::from_shared(format!("http://{}", args.address))
        .map_err(|error| unusable(&error))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES);
    let once = Mutex::new(Some(TokioIo::new(tls)));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let io = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(io.ok_or_else(|| io::Error::other("connected once")))
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| unusable(&error))
}

/// Durable records on their way to the stream.
#[derive(Debug, Default)]
struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&self, records: Vec<Record>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.records.extend(records);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Batches, as large as what waits allows.
struct Source {
    queue: Arc<Queue>,
    next: u64,
}

impl Stream for Source {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let mut records = Vec::with_capacity(BATCH_RECORDS_MAX);
        {
            let mut waiting = self.queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = 0;
            while let Some(record) = waiting.records.front() {
                let more = bytes + record.payload.len();
                let is_full = records.len() == BATCH_RECORDS_MAX || more > BATCH_BYTES_MAX;
                if is_full && !records.is_empty() {
                    break;
                }
                bytes = more;
                records.extend(waiting.records.pop_front());
            }
            if records.is_empty() {
                waiting.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let first = self.next;
        self.next += u64::try_from(records.len()).unwrap_or(0);
        Poll::Ready(Some(Batch { first, records }))
    }
}
