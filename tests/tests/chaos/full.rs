//! D11 with real file systems that are full: backpressure, no exit, and it goes on by itself.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use alys_stream_protocol::submission::{Submission, submission::Payload};
use alys_stream_simulation::verdict::Accepted;
use alys_stream_tests::apart::{apart, command};
use alys_stream_tests::deployment::{Deployment, mint};
use alys_stream_tests::link;
use alys_stream_tests::process::{PATIENCE, Served};
use alys_stream_tests::seed;
use alys_stream_tests::submission::Client;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use super::load::{accepted, draw};
use super::verdict::check;

/// Of a file system: room for two segments and the reserve, without which a buffer takes nothing new.
const SIZE: &str = "size=224m";

/// Messages of a batch.
const BATCH: usize = 64;

/// Nothing takes as long on a disk with room.
const SOON: Duration = Duration::from_secs(2);

/// What each of them is longer by, so that the file system is soon full.
const EXTRA_BYTES: usize = 8192;

/// Mounts a small file system; why not, otherwise. It is gone with the namespace of the test.
fn mount(at: &Path) -> Result<(), String> {
    std::fs::create_dir_all(at).expect("a folder");
    command("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs", at.to_str().expect("a plain path")])
}

/// Writes zeros until there is no space left.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn batch(rng: &mut fastrand::Rng) -> Vec<Submission> {
    let mut batch = draw(rng, BATCH);
    for submission in &mut batch {
        if let Some(Payload::PeginNotification(pegin)) = &mut submission.payload {
            pegin.extra_data = Some(vec![7; EXTRA_BYTES].into());
        }
    }
    batch
}

/// Has a batch accepted.
async fn accept(client: &Client, rng: &mut fastrand::Rng) -> Vec<Accepted> {
    let batch = batch(rng);
    let acceptances = timeout(PATIENCE, client.submit_until_accepted(batch.clone())).await;
    accepted(&batch, &acceptances.expect("the node takes messages"))
}

/// Whether an endpoint has acknowledged everything that is for it.
fn is_done(endpoint: &Value) -> bool {
    endpoint["state"] == "healthy" && endpoint["queued"] == 0 && endpoint["unacknowledged"] == 0
}

#[test]
fn a_full_disk_of_the_node_is_backpressure_and_no_exit() {
    apart("full::a_full_disk_of_the_node_is_backpressure_and_no_exit", || async {
        let mut rng = seed::rng();
        let folder = mint(2);
        let data = folder.path().join("d/node/data");
        mount(&data)?;
        let mut deployment = Deployment::start_in(folder, 2).await;
        let client = deployment.client();
        let mut all = accept(&client, &mut rng).await;
        // What is settled makes room again.
        for governance in &mut deployment.governance {
            governance.kill().await;
        }
        let ballast = data.join("ballast");
        fill(&ballast);
        // Whoever was taken in before the disk was full waits for room; later ones are refused.
        let mut waiting = JoinSet::new();
        let refused = async {
            loop {
                let (client, batch) = (client.clone(), batch(&mut rng));
                waiting.spawn(async move {
                    let answer = client.submit(batch.clone()).await;
                    answer.map(|acceptances| accepted(&batch, &acceptances))
                });
                match timeout(SOON, waiting.join_next()).await {
                    Ok(Some(Ok(Ok(accepted)))) => all.extend(accepted),
                    Ok(Some(Ok(Err(status)))) => return status,
                    Ok(None | Some(Err(_))) => panic!("a caller does not panic"),
                    Err(_) => {}
                }
            }
        };
        let status = timeout(PATIENCE, refused).await.expect("a full disk is noticed");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        println!("{} accepted, {} batches wait, then refused: {status}", all.len(), waiting.len());
        assert!(deployment.node.is_running(), "a full disk is no reason to end");
        std::fs::remove_file(&ballast).expect("the ballast can be removed");
        let waited = timeout(PATIENCE, waiting.join_all()).await;
        for accepted in waited.expect("whoever waited is answered") {
            all.extend(accepted.expect("there is room again"));
        }
        all.extend(accept(&client, &mut rng).await);
        deployment.governance.iter_mut().for_each(Served::restart);
        check(deployment, all).await;
        Ok(())
    });
}

#[test]
fn a_full_disk_of_a_governance_node_holds_back_what_is_for_it_and_is_no_exit() {
    let name = "full::a_full_disk_of_a_governance_node_holds_back_what_is_for_it_and_is_no_exit";
    apart(name, || async {
        let mut rng = seed::rng();
        let folder = mint(2);
        let data = folder.path().join("d/governance-1/data");
        mount(&data)?;
        let mut deployment = Deployment::start_in(folder, 2).await;
        let client = deployment.client();
        let mut all = accept(&client, &mut rng).await;
        for name in ["governance-1", "governance-2"] {
            link::until(&deployment.node, name, is_done).await;
        }
        let ballast = data.join("ballast");
        fill(&ballast);
        let is_full = async {
            loop {
                all.extend(accept(&client, &mut rng).await);
                link::until(&deployment.node, "governance-2", is_done).await;
                let done = link::until(&deployment.node, "governance-1", is_done);
                if timeout(SOON, done).await.is_err() {
                    return;
                }
            }
        };
        assert!(timeout(PATIENCE, is_full).await.is_ok(), "a full disk is noticed");
        println!("{} accepted until the disk of a governance node is full", all.len());
        assert!(deployment.governance[0].log().contains("No space left"), "it is the disk");
        all.extend(accept(&client, &mut rng).await);
        link::until(&deployment.node, "governance-2", is_done).await;
        assert!(deployment.governance[0].is_running(), "a full disk is no reason to end");
        std::fs::remove_file(&ballast).expect("the ballast can be removed");
        check(deployment, all).await;
        Ok(())
    });
}
