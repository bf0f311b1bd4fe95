//! Every single bit flip of a small log: no panic, no wrong record, no lost neighbour, and what is
//! lost is reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alys_stream_messaging::{Buffer, Recovered};
use alys_stream_testkit::disk::{Disk, Image};
use alys_stream_testkit::segment::{self, Entry, KIND_RECORD, KIND_SETTLED};

use super::*;

const MESSAGES: u64 = 16;
const SETTLED: [u64; 3] = [2, 3, 9];

/// A closed log of several segments whose last entry is a record.
struct Small {
    image: Image,
    /// Of each segment.
    entries: BTreeMap<PathBuf, Vec<Entry>>,
    config: BufferConfig,
}

fn payload_bytes(n: u64) -> usize {
    40 + n as usize * 11 % 90
}

impl Small {
    async fn build() -> Self {
        // Room for half a dozen records behind the header.
        let config =
            BufferConfig { segment_bytes: 5 * 1024, settled_bytes_keep: 1 << 20, ..tiny() };
        let disk = Disk::new(1);
        let (buffer, _) = Buffer::open(Path::new(DIR), config, disk.mount()).unwrap();
        for n in 1..=MESSAGES {
            let seq = buffer.append_one(NOW, message(n, payload_bytes(n))).unwrap().seq;
            buffer.durable(seq).await.unwrap();
            if SETTLED.contains(&(n - 1)) {
                let position = buffer.settle(&seqs([n - 1]));
                buffer.position_durable(position).await.unwrap();
            }
        }
        buffer.close().await;
        drop(buffer);
        let image = disk.image();
        let entries: BTreeMap<_, _> = image
            .iter()
            .map(|(path, bytes)| (path.clone(), segment::entries(bytes)))
            .filter(|(_, entries)| !entries.is_empty())
            .collect();
        assert!(entries.len() >= 2, "several segments");
        Self { image, entries, config }
    }

    /// Every byte that was written: whole files, up to the end of the last entry of a segment.
    fn bytes(&self) -> Vec<(PathBuf, usize)> {
        let mut bytes = Vec::new();
        for (path, content) in &self.image {
            let end = self
                .entries
                .get(path)
                .and_then(|entries| entries.last())
                .map_or(content.len(), |last| last.offset + last.bytes);
            bytes.extend((0..end).map(|offset| (path.clone(), offset)));
        }
        bytes
    }

    fn hit(&self, path: &Path, offset: usize) -> Option<Entry> {
        let entries = self.entries.get(path)?;
        entries.iter().find(|entry| entry.contains(offset)).copied()
    }

    fn check(&self, path: &Path, offset: usize, bit: u8) {
        let case = format!("{} byte {offset} bit {bit}", path.display());
        let disk = Disk::from_image(0, &self.image);
        assert!(disk.flip_bit(path, offset, bit));
        let (buffer, recovered) = Buffer::open(Path::new(DIR), self.config, disk.mount())
            .unwrap_or_else(|error| panic!("{error}; {case}"));
        let hit = self.hit(path, offset);
        for n in 1..=MESSAGES {
            self.check_record(&buffer, &recovered, n, hit, &case);
        }
        let is_last_hit = hit.is_some_and(|entry| entry.key == MESSAGES);
        let next = buffer.next_seq().0;
        assert!(next == MESSAGES + 1 || (is_last_hit && next == MESSAGES), "{case}");
        assert_eq!(buffer.append_one(NOW, message(99, 9)).unwrap().seq.0, next, "{case}");
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
                let is_told = in_gap || (n == MESSAGES && recovered.torn_tail.is_some());
                assert!(is_told, "seq {n} is lost without a word; {case}");
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
