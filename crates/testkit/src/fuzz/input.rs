//! Files as the bytes of one input.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | bit 0: make the checksums hold |
//! | then, for each file: 1 | which one, see [`name`] |
//! | 2 | bytes that follow |
//! | 2 | bytes of the file; what does not follow is zero |
//! | … | the bytes |

use crate::segment;

const FILES_MAX: usize = 12;

/// The tag of the mark.
pub(super) const MARK: u8 = 13;

/// Files by name, as an input describes them.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) is_sealed: bool,
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// The file that a tag stands for.
pub(super) fn name(tag: u8) -> String {
    match tag % 16 {
        0 => "identity".to_owned(),
        tag @ 1..=8 => format!("{tag:016x}.segment"),
        9 => "0000000000000001.segment.tmp".to_owned(),
        10 => format!("{:016x}.segment", u64::MAX),
        11 => "lock".to_owned(),
        12 => "0000000000000001-00001000.quarantine".to_owned(),
        MARK => "mark".to_owned(),
        14 => format!("{:016x}.segment", 1000),
        _ => "ids-0000000000000000-00010000".to_owned(),
    }
}

impl Input {
    pub(super) fn read(data: &[u8]) -> Self {
        let mut this = Self::default();
        let Some((flags, mut rest)) = data.split_first() else {
            return this;
        };
        this.is_sealed = flags & 1 == 1;
        while this.files.len() < FILES_MAX
            && let Some((head, behind)) = rest.split_first_chunk::<5>()
        {
            let [tag, a, b, c, d] = *head;
            let follow = usize::from(u16::from_le_bytes([a, b])).min(behind.len());
            let length = usize::from(u16::from_le_bytes([c, d]));
            let (content, next) = behind.split_at(follow);
            rest = next;
            let mut content = content.to_vec();
            content.resize(length.max(follow), 0);
            let name = name(tag);
            if this.is_sealed && (name == "identity" || name == "mark") {
                segment::seal_identity(&mut content);
            } else if this.is_sealed {
                segment::seal(&mut content);
            }
            this.files.push((name, content));
        }
        this
    }

    /// The reverse of [`Self::read`] for files with a tag.
    pub(super) fn write(files: &[(u8, &[u8])]) -> Vec<u8> {
        let mut data = vec![0];
        for (tag, bytes) in files {
            let follow = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
            data.push(*tag);
            data.extend_from_slice(&length(follow));
            data.extend_from_slice(&length(bytes.len()));
            data.extend_from_slice(bytes.get(..follow).unwrap_or_default());
        }
        data
    }
}
