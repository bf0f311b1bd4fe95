//! Small files that are written whole: a magic (8 bytes), a format version (4), a body, and a CRC-32C
//! of everything before it (4), little endian.

use std::io;

use crate::record::ByteReader;
use crate::storage::StorageFile;

/// The bytes of a file with this body.
pub(crate) fn encode(magic: [u8; 8], version: u32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    body(&mut bytes);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The body of a file; `None` when it does not verify.
pub(crate) fn decode(bytes: &[u8], magic: [u8; 8], version: u32) -> Option<ByteReader<'_>> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let mut reader = ByteReader::new(content);
    let is_whole = reader.array::<8>()? == magic
        && crc32c::crc32c(content) == u32::from_le_bytes(*crc)
        && reader.u32()? == version;
    is_whole.then_some(reader)
}

/// What is in a file, as far as it may be long.
pub(crate) fn read(file: &dyn StorageFile, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; bytes_max];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
