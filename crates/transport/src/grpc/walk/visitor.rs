//! The owner of no messages: what a walk shows to a peer instead of a buffer.

use std::ops::RangeInclusive;

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{Epoch, LogId, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, NackKind, OutboundRecord, PeerLog,
    ReceiveCursor, ReceiveError, Refusal, Verdict,
};

/// Separates the log of walks from every other hash of a name.
const DOMAIN: &[u8] = b"alys-stream endpoint walk";

/// Shows an empty log, always the same one for a node, so that peers remember one and not one for
/// each walk. What it is given it refuses for now: the peer keeps it for the real session.
#[derive(Debug)]
pub(super) struct Visitor {
    log_id: LogId,
}

impl Visitor {
    pub(super) fn new(node_id: &str) -> Self {
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(node_id).finalize();
        let mut log_id = [0; 16];
        for (to, from) in log_id.iter_mut().zip(hash) {
            *to = from;
        }
        Self { log_id: LogId::new(log_id) }
    }
}

impl Exchange for Visitor {
    fn local(&self) -> LocalLog {
        LocalLog {
            log_id: self.log_id,
            opening: Epoch(1).into(),
            next_seq: Seq(1),
            settled: Settled::NONE,
        }
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
        let refused = |_: InboundRecord| Verdict::Refused {
            kind: NackKind::Retry { after: None },
            code: 0,
            text: "this session only tests the link".to_owned(),
        };
        Ok(records.into_iter().map(refused).collect())
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {}

    fn gap(&self, _range: RangeInclusive<Seq>, _cause: GapCause, _text: &str) {}

    fn lost(&self) {}
}
