//! The bytes of a batch: the number of the first record (8), how many there are (4), then of each
//! its id (16), the length of its payload (4) and the payload. An acknowledgement is a number (8).
//! Decoding copies nothing.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::{Batch, Record};

/// Room for a whole batch, so that none is encoded in pieces.
const BUFFER_BYTES: usize = 128 * 1024;

/// Batches out, acknowledgements in: for the near end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Near;

/// Acknowledgements out, batches in: for the far end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Far;

/// Batches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batches;

/// Numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers;

impl Codec for Near {
    type Encode = Batch;
    type Decode = u64;
    type Encoder = Batches;
    type Decoder = Numbers;

    fn encoder(&mut self) -> Batches {
        Batches
    }

    fn decoder(&mut self) -> Numbers {
        Numbers
    }
}

impl Codec for Far {
    type Encode = u64;
    type Decode = Batch;
    type Encoder = Numbers;
    type Decoder = Batches;

    fn encoder(&mut self) -> Numbers {
        Numbers
    }

    fn decoder(&mut self) -> Batches {
        Batches
    }
}

impl Encoder for Batches {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let number = |length: usize| {
            u32::try_from(length).map_err(|_| Status::internal("longer than a batch"))
        };
        out.put_u64_le(batch.first);
        out.put_u32_le(number(batch.records.len())?);
        for Record { id, payload } in batch.records {
            out.put_slice(&id);
            out.put_u32_le(number(payload.len())?);
            out.put(payload);
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

impl Decoder for Batches {
    type Item = Batch;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Batch>, Status> {
        let short = |_| Status::internal("a batch is cut short");
        let mut rest = buffer.copy_to_bytes(buffer.remaining());
        let first = rest.try_get_u64_le().map_err(short)?;
        let count = rest.try_get_u32_le().map_err(short)?;
        let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(1024));
        for _ in 0..count {
            let mut id = [0; 16];
            rest.try_copy_to_slice(&mut id).map_err(short)?;
            let length = usize::try_from(rest.try_get_u32_le().map_err(short)?).unwrap_or(0);
            if length > rest.len() {
                return Err(Status::internal("a payload is cut short"));
            }
            records.push(Record { id, payload: rest.split_to(length) });
        }
        Ok(Some(Batch { first, records }))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

impl Encoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn encode(&mut self, number: u64, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_u64_le(number);
        Ok(())
    }
}

impl Decoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        let mut bytes: Bytes = buffer.copy_to_bytes(buffer.remaining());
        bytes.try_get_u64_le().map(Some).map_err(|_| Status::internal("a number is cut short"))
    }
}
