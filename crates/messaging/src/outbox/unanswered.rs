//! What was sent and got no answer: which messages went down with which streams. For dead letters
//! alone; nothing is decided by it, and it does not outlive the process.

use std::collections::VecDeque;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::endpoint::Endpoint;
use super::item::Item;
use super::{Action, Attempt, Cause, OWN_REFUSAL, Outbox};

/// Streams of one endpoint that are remembered, the newest ones (D7).
const STREAMS_MAX: usize = 16;

/// What was in flight when the streams of an endpoint ended, and when that was.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    streams: VecDeque<(UnixMillis, SeqSet)>,
}

impl Unanswered {
    pub(super) fn handle_lost(&mut self, now: UnixMillis, in_flight: SeqSet) {
        if in_flight.is_empty() {
            return;
        }
        if self.streams.len() >= STREAMS_MAX {
            self.streams.pop_front();
        }
        self.streams.push_back((now, in_flight));
    }

    fn of(&self, seq: Seq) -> impl Iterator<Item = UnixMillis> {
        self.streams.iter().filter(move |(_, seqs)| seqs.contains(seq)).map(|(at, _)| *at)
    }
}

impl Outbox {
    /// A message is dead; `why` nobody waits for the answers of those who have it in flight.
    pub(super) fn bury(&mut self, seq: Seq, cause: Cause, item: Option<Item>, why: &str) {
        let in_flight = item.as_ref().map_or(0, |item| item.in_flight);
        let attempts = item.map(Item::into_attempts).unwrap_or_default();
        let unanswered = self.unanswered(seq, in_flight, why);
        self.actions.push_back(Action::Dead { seq, cause, attempts, unanswered });
    }

    fn unanswered(&self, seq: Seq, in_flight: u64, why: &str) -> Vec<Attempt> {
        let mut unanswered = Vec::new();
        for endpoint in self.endpoints.values() {
            let lost = endpoint.unanswered.of(seq);
            unanswered.extend(lost.map(|at| no_answer(endpoint, at, "its stream ended")));
            if in_flight & endpoint.bit != 0 {
                unanswered.push(no_answer(endpoint, self.now, why));
            }
        }
        unanswered.sort_by_key(|attempt| attempt.at);
        unanswered
    }
}

fn no_answer(endpoint: &Endpoint, at: UnixMillis, why: &str) -> Attempt {
    let text = format!("no answer: {why}");
    Attempt { endpoint: endpoint.name.clone(), at, code: OWN_REFUSAL, text }
}
