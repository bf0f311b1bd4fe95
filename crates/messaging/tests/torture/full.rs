//! A real full disk: a small file system in memory, where the machine lets one be mounted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use alys_stream_messaging::{Buffer, FileStorage};

use tokio::time::timeout;

use super::fill::{PATIENCE, fill, grow, resumes};
use super::*;

/// A mounted file system of one mebibyte, gone when dropped.
struct Small {
    path: PathBuf,
    /// Removes the directory after the file system.
    _dir: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self { path: dir.path().to_path_buf(), _dir: dir })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn open(dir: &Path) -> Buffer {
    let config = BufferConfig { segment_bytes: 64 * 1024, ..tiny() };
    Buffer::open(dir, config, Arc::new(FileStorage)).unwrap().0
}

#[tokio::test]
async fn a_real_file_system_without_space_is_backpressure() {
    let Some(small) = Small::mount() else {
        println!(
            "cases: full-file-system 0 (no right to mount one here; the simulated disk fills up instead)"
        );
        return;
    };
    let dir = small.path.join("log");
    let buffer = open(&dir);
    let grown = grow(&buffer).await;
    let taken = grown + fill(&buffer, grown + 1).await;
    assert!(taken > 200, "{taken} messages in a mebibyte");
    let position = buffer.settle(&seqs(1..=taken / 2));
    timeout(PATIENCE, buffer.position_durable(position))
        .await
        .expect("a settlement needs no space that is not there")
        .unwrap();
    let last = resumes(&buffer, 1_000_000).await;
    assert_eq!(last, Seq(taken + 1));
    buffer.close().await;
    drop(buffer);
    let buffer = open(&dir);
    assert_eq!(buffer.next_seq(), last.next());
    assert_eq!(buffer.stat().records(), taken - taken / 2 + 1);
    for n in taken / 2 + 1..=taken {
        assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 700)));
    }
    drop(buffer);
    println!("cases: full-file-system 1 ({taken} messages on a tmpfs of 1 MiB)");
}
