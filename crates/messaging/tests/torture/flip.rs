//! Every single bit flip of a small log: no panic, no wrong record, no lost neighbour, and what is
//! lost is reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alys_stream_messaging::{Buffer, Recovered, tools};
use alys_stream_testkit::disk::{Disk, Image};
use alys_stream_testkit::segment::{self, Entry, KIND_RECORD, KIND_SETTLED};

use super::*;

/// At least; the log goes on until it has several segments.
const MESSAGES: u64 = 10;
const MESSAGES_MAX: u64 = 400;
const SETTLED: [u64; 3] = [2, 3, 9];

/// A closed log of several segments whose last entry is a record.
struct Small {
    image: Image,
    /// Of each segment.
    entries: BTreeMap<PathBuf, Vec<Entry>>,
    messages: u64,
    config: BufferConfig,
}

fn payload_bytes(n: u64) -> usize {
    40 + n as usize * 11 % 90
}

/// The entries of each segment that has a record.
fn segments_with_entries(image: &Image) -> BTreeMap<PathBuf, Vec<Entry>> {
    image
        .iter()
        .map(|(path, bytes)| (path.clone(), segment::entries(bytes)))
        .filter(|(_, entries)| entries.iter().any(|entry| entry.kind == KIND_RECORD))
        .collect()
}

impl Small {
    async fn build() -> Self {
        // Room for half a dozen records behind the header.
        let config = BufferConfig { segment_bytes: 5 * 1024, ..tiny() };
        let disk = Disk::new(1);
        let (buffer, _) = Buffer::open(Path::new(DIR), config, disk.mount()).unwrap();
        buffer.append_one(NOW, message(1, payload_bytes(1))).unwrap();
        // Small files: the next segment is ready before the first one has to grow.
        let next = Path::new(DIR).join("0000000000000002.segment");
        while !disk.paths().contains(&next) {
            tokio::task::yield_now().await;
        }
        buffer.durable(Seq(1)).await.unwrap();
        let mut messages = 1;
        while messages < MESSAGES || segments_with_entries(&disk.image()).len() < 2 {
            messages += 1;
            assert!(messages < MESSAGES_MAX, "the log stays in one segment");
            let message = message(messages, payload_bytes(messages));
            let seq = buffer.append_one(NOW, message).unwrap().seq;
            buffer.durable(seq).await.unwrap();
            if SETTLED.contains(&(messages - 1)) {
                let position = buffer.settle(&seqs([messages - 1]));
                buffer.position_durable(position).await.unwrap();
            }
        }
        buffer.close().await;
        drop(buffer);
        let image = disk.image();
        let entries = segments_with_entries(&image);
        Self { image, entries, messages, config }
    }

    /// Every byte that was written: whole files, up to the end of the last entry of a segment.
    fn bytes(&self) -> Vec<(PathBuf, usize)> {
        let mut bytes = Vec::new();
        for (path, content) in &self.image {
            // Behind the last entry, and in a file that was only prepared, there is nothing.
            let end = match self.entries.get(path).and_then(|entries| entries.last()) {
                Some(last) => last.offset + last.bytes,
                None => content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
            };
            bytes.extend((0..end).map(|offset| (path.clone(), offset)));
        }
        bytes
    }

    fn hit(&self, path: &Path, offset: usize) -> Option<Entry> {
        let entries = self.entries.get(path)?;
        entries.iter().find(|entry| entry.contains(offset)).copied()
    }

    /// Whether a byte is one of the zeros between the two copies of a segment's header, which
    /// nobody reads.
    fn is_filler(&self, path: &Path, offset: usize) -> bool {
        let in_header = self.entries.contains_key(path) && offset < segment::HEADER_BYTES;
        in_header && offset % segment::BLOCK_COPY_OFFSET >= segment::BLOCK_BYTES
    }

    fn check(&self, path: &Path, offset: usize, bit: u8) {
        let case = format!("{} byte {offset} bit {bit}", path.display());
        let disk = Disk::from_image(0, &self.image);
        assert!(disk.flip_bit(path, offset, bit));
        // Reading without opening needs no threads: most of the cases are of this kind.
        if self.is_filler(path, offset) && offset % 8 != usize::from(bit) {
            let found = tools::inspect(Path::new(DIR), &*disk.mount()).unwrap();
            let unsettled = self.messages - SETTLED.len() as u64;
            let [damage] = &found.corruption[..] else { panic!("{:?}; {case}", found.corruption) };
            assert_eq!((damage.path.as_deref(), damage.offset), (Some(path), 0), "{case}");
            assert_eq!(
                (found.unsettled_records(), found.next_seq.0),
                (unsettled, self.messages + 1)
            );
            return;
        }
        let (buffer, recovered) = Buffer::open(Path::new(DIR), self.config, disk.mount())
            .unwrap_or_else(|error| panic!("{error}; {case}"));
        let hit = self.hit(path, offset);
        for n in 1..=self.messages {
            self.check_record(&buffer, &recovered, n, hit, &case);
        }
        // The last record, too: the mark says that it was there.
        let next = buffer.next_seq().0;
        assert_eq!(next, self.messages + 1, "{case}");
        if bit == 0 {
            assert_eq!(buffer.append_one(NOW, message(9999, 9)).unwrap().seq.0, next, "{case}");
        }
    }

    fn check_record(
        &self,
        buffer: &Buffer,
        recovered: &Recovered,
        n: u64,
        hit: Option<Entry>,
        case: &str,
    ) {
        let is_hit = |kind| hit.is_some_and(|entry| entry.kind == kind);
        let is_hit_itself = is_hit(KIND_RECORD) && hit.is_some_and(|entry| entry.key == n);
        match buffer.read(Seq(n)) {
            Ok(Some(found)) => {
                assert_eq!(found, message(n, payload_bytes(n)), "a wrong record; {case}");
                // Without its settlement a message is delivered once more, and never lost.
                assert!(!SETTLED.contains(&n) || is_hit(KIND_SETTLED), "seq {n} is back; {case}");
            }
            Ok(None) if SETTLED.contains(&n) => {}
            Ok(None) => {
                assert!(is_hit_itself, "seq {n} is lost with its neighbour; {case}");
                let in_gap = recovered
                    .gaps
                    .iter()
                    .filter_map(|gap| gap.seqs.as_ref())
                    .any(|seqs| seqs.contains(&Seq(n)));
                assert!(in_gap, "seq {n} is lost without a word; {case}");
                assert_eq!(recovered.torn_tail, None, "{case}");
            }
            Err(error) => panic!("seq {n}: {error}; {case}"),
        }
    }
}

#[tokio::test]
async fn any_single_bit() {
    let small = Small::build().await;
    let bytes = small.bytes();
    let cases = for_each(bytes.len() as u64 * 8, |n| {
        let (path, offset) = &bytes[n as usize / 8];
        small.check(path, *offset, (n % 8) as u8);
    });
    println!(
        "cases: bit-flip {cases} (every bit of {} bytes in {} files)",
        bytes.len(),
        small.image.len()
    );
}
