//! `send`, `send_all`, `submit`, `submit_followed`, `request_signatures`, `notify_pegin`,
//! `report_status`.

use std::cell::RefCell;

use alys_stream_protocol::governance::{PeginNotification, SignatureRequest, TransactionType};
use alys_stream_protocol::message::{Message, MessageId};
use alys_stream_protocol::submission::{OutcomeState, Submission, submission::Payload};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
    transaction,
};

use crate::polled::{at_each_poll, polled};
use crate::rig::{Rig, assert_once, delivered, message, next_seq, works};

/// Messages of one large call.
const MANY: usize = 65_536;

/// Bytes of one.
const BYTES: usize = 32 * 1024 * 1024;

fn pegin() -> PeginNotification {
    PeginNotification {
        btc_txid: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b".into(),
        vout: 0,
        amount: 50_000,
        evm_address: "0x00112233445566778899aabbccddeeff00112233".into(),
        confirmations: 6,
        extra_data: None,
    }
}

/// A transaction whose input no other one spends.
fn pegout(number: usize) -> SignatureRequest {
    let vout = u32::try_from(number).unwrap();
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::from_sat(90_000), script_pubkey: ScriptBuf::new() };
    let (version, lock_time) = (transaction::Version::TWO, absolute::LockTime::ZERO);
    let transaction = Transaction { version, lock_time, input: vec![input], output: vec![output] };
    SignatureRequest {
        tx_hex: serialize_hex(&transaction),
        input_indices: vec![0],
        amounts: vec![100_000],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 1,
        timeout_seconds: None,
    }
}

fn submission(id: MessageId, payload: Payload) -> Submission {
    Submission {
        message_id: id.as_bytes().to_vec().into(),
        payload: Some(payload),
        ..Submission::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_dropped_at_each_poll_stores_once_when_it_is_sent_again() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let sent = RefCell::new(Vec::new());
    at_each_poll(
        "send",
        async |times| {
            let message = message(10);
            sent.borrow_mut().push(message.clone());
            polled(times, handle.send(message)).await
        },
        async |times, accepted| {
            let message = sent.borrow().last().unwrap().clone();
            let is_known = handle.follow(message.id).await.unwrap().is_some();
            assert!(times > 0 || !is_known, "nothing happens before the first poll");
            let first = assert_once(&handle, &message).await;
            assert_eq!(first.duplicate, is_known);
            assert!(accepted.is_none_or(|it| it.as_ref().unwrap().seq == first.seq));
        },
    )
    .await;
    for message in sent.take() {
        delivered(&handle, message.id).await;
    }
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_all_dropped_at_each_poll_accepts_all_or_none() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let sent: RefCell<Vec<Message>> = RefCell::default();
    at_each_poll(
        "send_all",
        async |times| {
            let messages: Vec<_> = (0..5).map(|_| message(100)).collect();
            sent.replace(messages.clone());
            polled(times, handle.send_all(messages)).await
        },
        async |_, _| {
            let messages = sent.borrow().clone();
            let mut known = 0;
            for message in &messages {
                known += usize::from(handle.follow(message.id).await.unwrap().is_some());
            }
            assert!(known == 0 || known == messages.len(), "{known} of {}", messages.len());
            for message in &messages {
                assert_once(&handle, message).await;
            }
        },
    )
    .await;
    works(&handle).await;
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submit_dropped_at_each_poll_stores_once_when_it_is_submitted_again() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let id = RefCell::new(MessageId::mint());
    let make = |id| submission(id, Payload::PeginNotification(pegin()));
    at_each_poll(
        "submit",
        async |times| {
            let minted = MessageId::mint();
            id.replace(minted);
            polled(times, handle.submit(vec![make(minted)])).await
        },
        async |_, _| {
            let id = *id.borrow();
            let first = handle.submit(vec![make(id)]).await.unwrap();
            let before = next_seq(&handle).await;
            let again = handle.submit(vec![make(id)]).await.unwrap();
            assert_eq!((again[0].seq, again[0].duplicate), (first[0].seq, true));
            assert_eq!(next_seq(&handle).await, before);
            delivered(&handle, id).await;
        },
    )
    .await;
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submit_followed_dropped_at_each_poll_makes_no_second_transaction() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let last = RefCell::new((0, MessageId::mint()));
    let make = |(number, id)| submission(id, Payload::SignatureRequest(pegout(number)));
    at_each_poll(
        "submit_followed",
        async |times| {
            let minted = (times, MessageId::mint());
            last.replace(minted);
            polled(times, handle.submit_followed(make(minted))).await
        },
        async |_, _| {
            let last = *last.borrow();
            let (first, mut follow) = handle.submit_followed(make(last)).await.unwrap();
            let (again, mut other) = handle.submit_followed(make(last)).await.unwrap();
            assert_eq!((again.seq, again.duplicate), (first.seq, true));
            for follow in [&mut follow, &mut other] {
                let outcome = follow.finished_outcome().await.unwrap();
                assert_eq!((outcome.state(), outcome.inputs_signed), (OutcomeState::Complete, 1));
            }
        },
    )
    .await;
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

/// These choose their own id: what was dropped is accepted once or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_signatures_and_notify_pegin_dropped_at_each_poll_are_accepted_once_at_most() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let before = RefCell::new(0);
    let check = async |name: &str, is_over: bool| {
        let grown = next_seq(&handle).await - *before.borrow();
        assert!(grown == u64::from(is_over) || (!is_over && grown <= 1), "{name}: {grown}");
    };
    at_each_poll(
        "request_signatures",
        async |times| {
            before.replace(next_seq(&handle).await);
            polled(times, handle.request_signatures(pegout(times), None)).await
        },
        async |_, output| check("request_signatures", output.is_some()).await,
    )
    .await;
    at_each_poll(
        "notify_pegin",
        async |times| {
            before.replace(next_seq(&handle).await);
            polled(times, handle.notify_pegin(pegin())).await
        },
        async |_, output| check("notify_pegin", output.is_some()).await,
    )
    .await;
    let (_, mut follow) = handle.request_signatures(pegout(1000), None).await.unwrap();
    assert_eq!(follow.finished_outcome().await.unwrap().state(), OutcomeState::Complete);
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_status_dropped_at_each_poll_is_replaced_by_the_next_one() {
    let rig = Rig::start().await;
    let system = rig.node().await;
    let handle = system.handle();
    let before = next_seq(&handle).await;
    at_each_poll(
        "report_status",
        async |times| polled(times, handle.report_status()).await,
        async |_, _| assert!(handle.report_status().await.unwrap().seq.is_volatile()),
    )
    .await;
    assert_eq!(next_seq(&handle).await, before, "reports are not logged");
    let chain = handle.status().mailboxes["chain"];
    assert_eq!(chain, 0, "nothing is left with those who were asked");
    works(&handle).await;
    system.shutdown(std::time::Duration::from_secs(5)).await;
    rig.stop().await;
}

/// After all of it, as much can be on its way as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_holds_nothing_back() {
    let rig = Rig::alone();
    let system = rig.node().await;
    let handle = system.handle();
    let over = at_each_poll(
        "send_all of many",
        async |times| {
            let messages = (0..MANY / 16).map(|_| message(BYTES / MANY)).collect();
            polled(times, handle.send_all(messages)).await
        },
        async |_, _| {},
    )
    .await;
    // However many there are, and however far they got, nobody waits for them.
    let mut holding = Vec::new();
    for times in 0..=over {
        let mut held = Box::pin(handle.send_all((0..MANY).map(|_| message(1)).collect()));
        for _ in 0..times.min(1) {
            assert!(futures::poll!(held.as_mut()).is_pending());
        }
        holding.push(held);
        handle.send(message(1)).await.unwrap();
    }
    drop(holding);
    let accepted = handle.send_all((0..MANY).map(|_| message(1)).collect()).await.unwrap();
    assert_eq!(accepted.len(), MANY);
    let accepted = handle.send_all((0..8).map(|_| message(BYTES / 8)).collect()).await.unwrap();
    assert_eq!(accepted.len(), 8);
    system.shutdown(std::time::Duration::ZERO).await;
    rig.stop().await;
}
