//! The refusals of a message as the payload of a log entry. Little endian.
//!
//! | bytes | field |
//! |---|---|
//! | 16 | log id |
//! | 2 | number of endpoints, each: name (2 + n), refusals (4), standing (1: 1 waiting, 2 final), due (8; 0 when final) |
//! | 2 | number of attempts, each: name (2 + n), at (8), code (4), text (2 + n) |

use alys_stream_protocol::limits;
use alys_stream_protocol::message::LogId;
use alys_stream_protocol::time::UnixMillis;

use super::{EndpointHistory, History, Standing};
use crate::outbox::{Attempt, REFUSAL_TEXT_BYTES_MAX};
use crate::record::{ByteReader, put_text};

const WAITING: u8 = 1;
const FINAL: u8 = 2;

pub(super) fn encode(out: &mut Vec<u8>, log: LogId, history: &History) {
    out.extend_from_slice(log.as_bytes());
    put_count(out, history.endpoints.len());
    for endpoint in &history.endpoints {
        put_text(out, &endpoint.endpoint, limits::NODE_ID_BYTES_MAX);
        out.extend_from_slice(&endpoint.refusals.to_le_bytes());
        let (standing, due) = match endpoint.standing {
            Standing::Waiting { due } => (WAITING, due.0),
            Standing::Final => (FINAL, 0),
        };
        out.push(standing);
        out.extend_from_slice(&due.to_le_bytes());
    }
    put_count(out, history.attempts.len());
    for attempt in &history.attempts {
        put_text(out, &attempt.endpoint, limits::NODE_ID_BYTES_MAX);
        out.extend_from_slice(&attempt.at.0.to_le_bytes());
        out.extend_from_slice(&attempt.code.to_le_bytes());
        put_text(out, &attempt.text, REFUSAL_TEXT_BYTES_MAX);
    }
}

/// Endpoints and attempts of one message are bounded far below 65 536.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
}

/// The log that an entry belongs to.
pub(super) fn decode_log(bytes: &[u8]) -> Option<LogId> {
    ByteReader::new(bytes).array().map(LogId::new)
}

pub(super) fn decode(bytes: &[u8]) -> Option<History> {
    let mut reader = ByteReader::new(bytes);
    reader.array::<16>()?;
    let mut history = History::default();
    for _ in 0..reader.u16()? {
        let (endpoint, refusals) = (reader.text()?, reader.u32()?);
        let (standing, due) = (reader.u8()?, UnixMillis(reader.u64()?));
        let standing = match standing {
            WAITING => Standing::Waiting { due },
            FINAL => Standing::Final,
            _ => return None,
        };
        history.endpoints.push(EndpointHistory { endpoint, refusals, standing });
    }
    for _ in 0..reader.u16()? {
        history.attempts.push(Attempt {
            endpoint: reader.text()?,
            at: UnixMillis(reader.u64()?),
            code: reader.u32()?,
            text: reader.text()?,
        });
    }
    Some(history)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history() -> impl Strategy<Value = History> {
        let standing = prop_oneof![
            any::<u64>().prop_map(|due| Standing::Waiting { due: UnixMillis(due) }),
            Just(Standing::Final),
        ];
        let endpoint = ("[a-z0-9-]{0,20}", any::<u32>(), standing).prop_map(
            |(endpoint, refusals, standing)| EndpointHistory { endpoint, refusals, standing },
        );
        let attempt = ("[a-z0-9-]{0,20}", any::<u64>(), any::<u32>(), ".{0,40}").prop_map(
            |(endpoint, at, code, text)| Attempt { endpoint, at: UnixMillis(at), code, text },
        );
        let endpoints = prop::collection::vec(endpoint, 0..5);
        (endpoints, prop::collection::vec(attempt, 0..9))
            .prop_map(|(endpoints, attempts)| History { endpoints, attempts })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(history in history()) {
            let mut bytes = Vec::new();
            encode(&mut bytes, LogId::new([4; 16]), &history);
            prop_assert_eq!(decode_log(&bytes), Some(LogId::new([4; 16])));
            prop_assert_eq!(decode(&bytes), Some(history));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes));
        }
    }
}
