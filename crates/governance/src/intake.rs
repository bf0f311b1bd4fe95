//! What arrives on a stream, as honestly as the node is told to read it.
//!
//! Invariants:
//! - G7: a stream that is cut in the middle of a batch has delivered the records before the cut,
//!   and none after it.

use std::sync::Arc;

use alys_stream_protocol::governance::{StreamRequest, stream_request};
use alys_stream_protocol::session::{Frame, frame};
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::misbehaviour::{Misbehaviour, Misdeed};
use crate::streams::{Ears, Streams};

/// Something that carries records.
pub(crate) trait Carrier: Send + 'static {
    /// How many records are in it.
    fn records(&self) -> usize;
    /// Drops all records but the first `keep`.
    fn truncate(&mut self, keep: usize);
}

impl Carrier for Frame {
    fn records(&self) -> usize {
        match &self.kind {
            Some(frame::Kind::Data(data)) => data.records.len(),
            _ => 0,
        }
    }

    fn truncate(&mut self, keep: usize) {
        if let Some(frame::Kind::Data(data)) = &mut self.kind {
            data.records.truncate(keep);
        }
    }
}

impl Carrier for StreamRequest {
    fn records(&self) -> usize {
        match &self.payload {
            None
            | Some(
                stream_request::Payload::NodeRegistration(_)
                | stream_request::Payload::Heartbeat(_),
            ) => 0,
            Some(
                stream_request::Payload::SignatureRequest(_)
                | stream_request::Payload::PeginNotification(_)
                | stream_request::Payload::StatusUpdate(_),
            ) => 1,
        }
    }

    fn truncate(&mut self, keep: usize) {
        if keep == 0 {
            self.payload = None;
        }
    }
}

struct Intake<T> {
    inner: Streaming<T>,
    flags: watch::Receiver<Misbehaviour>,
    streams: Arc<Streams>,
    cancel: CancellationToken,
    /// Cuts the connection, not only the stream.
    cut: CancellationToken,
    records: u64,
    is_cut: bool,
}

/// The messages of a stream. It ends when the stream is cancelled.
pub(crate) fn intake<T: Carrier>(
    inner: Streaming<T>,
    ears: &Ears,
    streams: &Arc<Streams>,
    cut: CancellationToken,
) -> BoxStream<'static, Result<T, Status>> {
    let intake = Intake {
        inner,
        flags: ears.flags.clone(),
        streams: Arc::clone(streams),
        cancel: ears.cancel.clone(),
        cut,
        records: 0,
        is_cut: false,
    };
    unfold(intake, |mut intake| async move { intake.next().await.map(|item| (item, intake)) })
        .boxed()
}

impl<T: Carrier> Intake<T> {
    async fn next(&mut self) -> Option<Result<T, Status>> {
        if self.is_cut {
            self.cut.cancel();
            return Some(Err(Status::unavailable("cut in the middle of a batch, as told")));
        }
        let item = loop {
            if self.flags.borrow().stop_reading {
                self.streams.did(Misdeed::Unread);
            }
            // A flag that nobody can change any more stays as it is.
            let reading = self.flags.wait_for(|flags| !flags.stop_reading);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                _ = reading => {}
            }
            let told_to_stop = async {
                if self.flags.wait_for(|flags| flags.stop_reading).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break None,
                () = told_to_stop => {}
                item = self.inner.next() => break item,
            }
        };
        match item {
            Some(Ok(mut item)) => {
                self.count(&mut item);
                Some(Ok(item))
            }
            other => other,
        }
    }

    fn count(&mut self, item: &mut T) {
        let before = self.records;
        let records = u64::try_from(item.records()).unwrap_or(u64::MAX);
        self.records += records;
        let Some(cut) = self.flags.borrow().disconnect_mid_batch else {
            return;
        };
        if records > 0 && self.records > cut.after_records {
            item.truncate(
                usize::try_from(cut.after_records.saturating_sub(before)).unwrap_or(usize::MAX),
            );
            self.is_cut = true;
            self.streams.did(Misdeed::Cut);
            self.streams.clear_disconnect();
        }
    }
}
