//! D11 with a real file system that is full: backpressure, no exit, and it goes on by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use alys_stream_tests::deployment::{Deployment, mint};

use super::load::{accepted, draw};
use super::verdict::check;

/// Bytes of the file system: the logs of an empty node, with some room.
const SIZE_MIB: usize = 96;

/// Messages of a batch.
const BATCH: usize = 64;

/// Most batches until the file system must be full.
const BATCHES_MAX: usize = 2000;

/// A mounted file system, unmounted when it is dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        println!("unmounted: {unmounted:?}");
    }
}

/// Mounts a small file system there; why not, otherwise.
fn mount(at: &Path) -> Result<Mounted, String> {
    let size = format!("size={SIZE_MIB}m");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
        .arg(at)
        .output()
        .map_err(|error| format!("mount: {error}"))?;
    if !mounted.status.success() {
        return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
    }
    Ok(Mounted(at.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_backpressure_and_no_exit() {
    let folder = mint(2);
    let data = folder.path().join("d/node/data");
    std::fs::create_dir_all(&data).expect("a folder");
    let mounted = match mount(&data) {
        Ok(mounted) => mounted,
        Err(reason) => {
            println!("skipped: no file system can be mounted here: {reason}");
            return;
        }
    };
    let mut deployment = Deployment::start_in(folder, 2).await;
    let client = deployment.client();
    let ballast = mounted.0.join("ballast");
    fill(&ballast);
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut all, mut refused) = (Vec::new(), 0);
    for _ in 0..BATCHES_MAX {
        let batch = draw(&mut rng, BATCH);
        match client.submit(batch.clone()).await {
            Ok(acceptances) => all.extend(accepted(&batch, &acceptances)),
            Err(status) => {
                refused += 1;
                println!("refused: {status}");
                break;
            }
        }
    }
    println!("{} accepted, then {refused} refused", all.len());
    assert!(deployment.node.is_running(), "a full disk is no reason to end");
    std::fs::remove_file(&ballast).expect("the ballast can be removed");
    let batch = draw(&mut rng, BATCH);
    let acceptances = client.submit_until_accepted(batch.clone()).await;
    all.extend(accepted(&batch, &acceptances));
    check(deployment, all).await;
    drop(mounted);
}

/// Writes zeros until there is no space left.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}
