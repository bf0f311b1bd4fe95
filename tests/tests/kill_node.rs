//! D1, D2, D3 with real processes: `kill -9` of the node at random moments under load, and a restart
//! from its buffer, loses nothing and applies nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::deployment::Deployment;
use alys_stream_tests::submission::Client;
use alys_stream_tests::{load, seed};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the node is killed.
const KILLS: usize = 24;

/// Callers that submit at the same time.
const CALLERS: u64 = 6;

/// What one caller got accepted.
#[derive(Debug, Default)]
struct Accepted {
    pegins: Vec<MessageId>,
    signatures: Vec<MessageId>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_node_at_any_moment_loses_nothing_and_applies_nothing_twice() {
    let mut rng = seed::rng();
    let mut deployment = Deployment::start(3).await;
    let (count, mut counted) = watch::channel(0_u64);
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(submit(deployment.client(), rng.fork(), count.clone(), Arc::clone(&stop)));
    }

    for kill in 0..KILLS {
        let moment = *counted.borrow_and_update() + rng.u64(1..120);
        counted.wait_for(|accepted| *accepted >= moment).await.expect("callers go on");
        // A handful of scheduler rounds, so that kills fall between any two steps.
        for _ in 0..rng.u32(0..200) {
            tokio::task::yield_now().await;
        }
        deployment.node.kill().await;
        deployment.node.restart();
        println!("kill {kill} after {moment} accepted");
    }
    stop.store(true, Ordering::Release);
    deployment.node.ready().await;

    let mut all = Accepted::default();
    while let Some(accepted) = callers.join_next().await {
        let accepted = accepted.expect("a caller does not panic");
        all.pegins.extend(accepted.pegins);
        all.signatures.extend(accepted.signatures);
    }
    let client = deployment.client();
    for id in all.pegins.iter().chain(&all.signatures) {
        let outcome = client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{id}: {}", outcome.reason);
    }
    for id in &all.signatures {
        assert!(!client.outcome(*id).await.transaction.is_empty(), "{id} has no transaction");
    }

    let accepted: BTreeSet<_> = all.pegins.iter().chain(&all.signatures).copied().collect();
    println!("{} accepted over {KILLS} kills", accepted.len());
    for (index, ledger) in deployment.stop().await.into_iter().enumerate() {
        let twice: Vec<_> = ledger.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "governance {index} applied twice: {twice:?}");
        for id in &all.pegins {
            assert!(ledger.contains_key(id), "governance {index} never got {id}");
        }
    }
}

async fn submit(
    client: Client,
    mut rng: fastrand::Rng,
    count: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
) -> Accepted {
    let mut accepted = Accepted::default();
    while !stop.load(Ordering::Acquire) {
        let mut batch = Vec::new();
        for _ in 0..rng.u32(1..6) {
            let id = MessageId::mint();
            batch.push(load::pegin(&mut rng, id));
            accepted.pegins.push(id);
        }
        if rng.u8(..) < 64 {
            let id = MessageId::mint();
            let inputs = rng.u32(1..4);
            let transaction = load::transaction(&mut rng, inputs);
            batch.push(load::signature_request(id, &transaction));
            accepted.signatures.push(id);
        }
        batch.push(load::status());
        let accepted = client.submit_until_accepted(batch).await;
        count.send_modify(|count| *count += accepted.len() as u64);
    }
    accepted
}
