//! A program of yours with the link inside: it hands over a peg-in and a peg-out to sign, and sees
//! what becomes of both.
//!
//! `cargo run --example embed`. The governance node that it talks to runs within the example.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::time::Duration;

use alys_stream::prelude::*;
use alys_stream::protocol::governance::PeginNotification;

mod peer;
mod pegout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let peer = peer::Peer::start(folder.path()).await?;

    // A program of yours has a file: `StreamBuilder::from_file("node.yaml")`.
    let yaml = peer.node_yaml(folder.path());
    let system =
        StreamBuilder::from_yaml(yaml, folder.path()).software("example/1.0").start().await?;
    let handle = system.handle();

    let pegin = PeginNotification {
        btc_txid: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b".into(),
        vout: 0,
        amount: 50_000,
        evm_address: "0x00112233445566778899aabbccddeeff00112233".into(),
        confirmations: 6,
        extra_data: None,
    };
    let submissions = vec![
        submission(Payload::PeginNotification(pegin)),
        submission(Payload::SignatureRequest(pegout::request(&peer.federation.script_pubkey()))),
    ];
    // All or none. Once this returns they are on stable storage, whatever crashes.
    let accepted = handle.submit(submissions).await?;
    for Accepted { id, seq, .. } in &accepted {
        println!("accepted {id} as {seq}");
    }
    for Accepted { id, .. } in accepted {
        let Some(mut follow) = handle.follow(id).await? else { continue };
        while let Some(outcome) = follow.next().await {
            let (state, signed) = (outcome.state(), outcome.inputs_signed);
            println!(
                "{id}: {} ({signed} of {} inputs signed)",
                state.as_str_name(),
                outcome.inputs
            );
        }
    }
    for endpoint in handle.status().endpoints {
        let link = endpoint.connection;
        println!("{}: {}, round trip {:?} µs", link.name, link.state.as_str(), link.rtt_us);
    }
    system.shutdown(Duration::from_secs(5)).await;
    peer.running.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn submission(payload: Payload) -> Submission {
    Submission { payload: Some(payload), ..Default::default() }
}
