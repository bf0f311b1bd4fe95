//! What stands between gRPC and the messages: frames that are counted before they are decoded, and
//! messages that are carried as bytes.

use alys_stream_protocol::limits::BATCH_BYTES_MAX;
use alys_stream_protocol::session::Frame;
use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::session::check_frame;

/// Room for a whole batch with what is around its payloads, so that none grows while it is encoded or
/// gathered.
const FRAME_ROOM_BYTES: usize = BATCH_BYTES_MAX + BATCH_BYTES_MAX / 2;

/// Frames of a session, on both sides. One that holds more than a frame may is refused before room
/// is made for it (T58).
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = Frame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, item: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FRAME_ROOM_BYTES, BATCH_BYTES_MAX)
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Frame>, Status> {
        read_frame(take(buffer)).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FRAME_ROOM_BYTES, BATCH_BYTES_MAX)
    }
}

/// Reads one frame of a peer.
///
/// # Errors
///
/// When it holds more than a frame may (T58), or is none.
pub fn read_frame(encoded: Bytes) -> Result<Frame, Status> {
    check_frame(&encoded).map_err(|violation| Status::internal(violation.to_string()))?;
    Frame::decode(encoded).map_err(|error| Status::internal(error.to_string()))
}

/// Bytes in, bytes out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(take(buffer)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// The whole message; nothing is copied.
fn take(buffer: &mut DecodeBuf<'_>) -> Bytes {
    buffer.copy_to_bytes(buffer.remaining())
}
