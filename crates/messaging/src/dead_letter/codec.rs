//! A dead letter as the payload of a log entry. Little endian.
//!
//! | bytes | field |
//! |---|---|
//! | 16 | log id |
//! | 8 | seq |
//! | 8 | died at, milliseconds since the Unix epoch |
//! | 8 | accepted at, likewise |
//! | 1 | cause: 1 expired, 2 timed out, 3 refused, 4 evicted |
//! | 1 | with cause 2: 1 when it may have been seen |
//! | 4 | with cause 3: the code, else 0 |
//! | 2 + n | with cause 3: the text, else empty |
//! | 2 | number of attempts, each: endpoint (2 + n), at (8), code (4), text (2 + n) |
//! | 2 | number of errors, each: text (2 + n) |
//! | … | see the `record` module |

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{LogId, MessageId, Seq};
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

use super::{DeadAttempt, DeadLetter};
use crate::outbox::Cause;
use crate::record::{self, ByteReader, put_text};

const EXPIRED: u8 = 1;
const TIMED_OUT: u8 = 2;
const REFUSED: u8 = 3;
const EVICTED: u8 = 4;

/// Most attempts that are kept: 20 refusals by each of 64 endpoints.
const ATTEMPTS_MAX: usize = 1280;

/// Most errors of a chain that are kept.
const ERRORS_MAX: usize = 32;

pub(super) fn encode(out: &mut Vec<u8>, letter: &DeadLetter) {
    out.extend_from_slice(letter.log.as_bytes());
    out.extend_from_slice(&letter.seq.0.to_le_bytes());
    out.extend_from_slice(&letter.died_at.0.to_le_bytes());
    out.extend_from_slice(&letter.accepted_at.0.to_le_bytes());
    let (cause, seen, code, text) = match &letter.cause {
        Cause::Expired => (EXPIRED, false, 0, ""),
        Cause::TimedOut { may_have_been_seen } => (TIMED_OUT, *may_have_been_seen, 0, ""),
        Cause::Refused { code, text } => (REFUSED, false, *code, text.as_str()),
        Cause::Evicted => (EVICTED, false, 0, ""),
    };
    out.extend_from_slice(&[cause, u8::from(seen)]);
    out.extend_from_slice(&code.to_le_bytes());
    put_text(out, text, limits::TEXT_BYTES_MAX);
    // The latest tell the most.
    let attempts = letter.attempts.iter().skip(letter.attempts.len().saturating_sub(ATTEMPTS_MAX));
    out.extend_from_slice(&u16::try_from(attempts.len()).unwrap_or(u16::MAX).to_le_bytes());
    for attempt in attempts {
        put_text(out, &attempt.endpoint, limits::NODE_ID_BYTES_MAX);
        out.extend_from_slice(&attempt.at.0.to_le_bytes());
        out.extend_from_slice(&attempt.code.to_le_bytes());
        put_text(out, &attempt.text, limits::TEXT_BYTES_MAX);
    }
    let errors = letter.error_chain.iter().take(ERRORS_MAX);
    out.extend_from_slice(&u16::try_from(errors.len()).unwrap_or(u16::MAX).to_le_bytes());
    for error in errors {
        put_text(out, error, limits::TEXT_BYTES_MAX);
    }
    record::encode(out, letter.accepted_at, &letter.message);
}

/// What is kept in memory of a dead letter.
pub(super) struct Head {
    pub(super) log: LogId,
    pub(super) seq: Seq,
    pub(super) died_at: UnixMillis,
    pub(super) id: MessageId,
}

/// Which message it is, without its payload.
pub(super) fn decode_head(bytes: &[u8]) -> Option<Head> {
    let mut reader = ByteReader::new(bytes);
    let log = LogId::new(reader.array()?);
    let seq = Seq(reader.u64()?);
    let died_at = UnixMillis(reader.u64()?);
    // Accepted at, cause, whether it was seen, code.
    reader.slice(8 + 1 + 1 + 4)?;
    let skip_text = |reader: &mut ByteReader<'_>| {
        let length = usize::from(reader.u16()?);
        reader.slice(length).map(|_| ())
    };
    skip_text(&mut reader)?;
    for _ in 0..reader.u16()? {
        skip_text(&mut reader)?;
        reader.slice(8 + 4)?;
        skip_text(&mut reader)?;
    }
    for _ in 0..reader.u16()? {
        skip_text(&mut reader)?;
    }
    let id = record::decode_meta(seq, bytes.get(reader.offset()..)?)?.id;
    Some(Head { log, seq, died_at, id })
}

pub(super) fn decode(bytes: &Bytes) -> Option<DeadLetter> {
    let mut reader = ByteReader::new(bytes);
    let log = LogId::new(reader.array()?);
    let seq = Seq(reader.u64()?);
    let died_at = UnixMillis(reader.u64()?);
    let accepted_at = UnixMillis(reader.u64()?);
    let (cause, seen) = (reader.u8()?, reader.u8()?);
    let (code, text) = (reader.u32()?, reader.text()?);
    let cause = match cause {
        EXPIRED => Cause::Expired,
        TIMED_OUT => Cause::TimedOut { may_have_been_seen: seen != 0 },
        REFUSED => Cause::Refused { code, text },
        EVICTED => Cause::Evicted,
        _ => return None,
    };
    let mut attempts = Vec::new();
    for _ in 0..reader.u16()? {
        attempts.push(DeadAttempt {
            endpoint: reader.text()?,
            at: UnixMillis(reader.u64()?),
            code: reader.u32()?,
            text: reader.text()?,
        });
    }
    let mut error_chain = Vec::new();
    for _ in 0..reader.u16()? {
        error_chain.push(reader.text()?);
    }
    let message = record::decode(&bytes.slice(reader.offset()..))?;
    Some(DeadLetter { log, seq, message, accepted_at, died_at, cause, attempts, error_chain })
}
