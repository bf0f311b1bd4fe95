//! The gate: what it lets in, and what becomes of the rest.

use alys_stream_protocol::governance::ErrorCode;
use alys_stream_transport::exchange::{Exchange as _, NackKind, Verdict};

use super::pushed::{Governed, Peer, proposal, update};
use super::*;
use crate::exchange::EndpointExchange;
use crate::failure::FailureKind;
use crate::federation::tests::{draft, halt};
use crate::gate::{Gate, GateRefusal};

/// Lets nothing in that names this kind, and of others one at a time.
#[derive(Debug)]
struct Strict {
    forbidden: MessageKind,
    credit: Mutex<u32>,
    seen: Mutex<Vec<(String, MessageKind, usize)>>,
}

impl Gate for Strict {
    fn admit(&self, endpoint: &str, kind: MessageKind, bytes: &Bytes) -> Result<(), GateRefusal> {
        self.seen.lock().unwrap().push((endpoint.to_owned(), kind, bytes.len()));
        if kind == self.forbidden {
            return Err(GateRefusal::Never { reason: "not from you".into() });
        }
        let mut credit = self.credit.lock().unwrap();
        let left = credit.checked_sub(1).ok_or_else(|| GateRefusal::Later {
            after: Duration::from_secs(2),
            reason: "too much".into(),
        })?;
        *credit = left;
        Ok(())
    }
}

#[tokio::test]
async fn what_the_gate_does_not_admit_is_answered_counted_and_looked_at_no_further() {
    let mut site = Governed::site(1);
    let gate = Arc::new(Strict {
        forbidden: MessageKind::PROPOSAL_NOTIFICATION,
        credit: Mutex::new(1),
        seen: Mutex::default(),
    });
    site.config.gate = Arc::clone(&gate) as Arc<dyn Gate>;
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);

    let (_, verdict) = peer.push(&proposal("p", 10)).await;
    let Verdict::Refused { kind: NackKind::Terminal, code, text } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(code, ErrorCode::AuthorizationFailed as u32);
    assert_eq!(text, "not admitted: not from you");

    let halted = update(&halt(1).signed(&[1, 2]));
    let seq = peer.hand_over(&node, &halted).await;
    assert!(node.tree.chain().await.is_halted);
    let pushed = update(&draft(1, &[1, 2, 4]).signed(&[1, 2]));
    let (later, verdict) = peer.push(&pushed).await;
    let Verdict::Refused { kind: NackKind::Retry { after }, code, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!((after, code), (Some(Duration::from_secs(2)), ErrorCode::RateLimited as u32));
    let received = peer.exchange.receive_cursor(peer.log).received;
    assert!(received.contains(seq) && !received.contains(later), "the peer keeps it");
    *gate.credit.lock().unwrap() = 1;
    assert_ne!(peer.send(later, pushed.kind(), pushed.encode_to_vec().into()).await, verdict);
    peer.acknowledged(&node, later).await;
    assert_eq!(node.in_force(), Version(1));

    // A plain stream passes the same gate, and cannot be told.
    let plain = EndpointExchange::new(Arc::clone(&node.life.delivery), ONE);
    let it = proposal("q", 10);
    plain.receive_unsequenced(it.clone(), it.encode_to_vec().into());
    assert_eq!(node.tree.chain().await.proposals_total, 0);
    assert_eq!(node.failed(FailureKind::InboundNotAdmitted), 3);
    assert_eq!(node.life.delivery.counts().inbound_refused, 3);
    let seen = gate.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|(endpoint, _, bytes)| endpoint == "gov-0" && *bytes > 0));
    node.life.stop().await;
}

/// What is no message at all does not get as far as the gate.
#[tokio::test]
async fn the_gate_is_asked_about_messages_alone() {
    let mut site = Governed::site(1);
    let gate = Arc::new(Strict {
        forbidden: MessageKind(0),
        credit: Mutex::new(9),
        seen: Mutex::default(),
    });
    site.config.gate = Arc::clone(&gate) as Arc<dyn Gate>;
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    peer.push_raw(MessageKind::FEDERATION_UPDATE, Bytes::from_static(&[0xff; 40])).await;
    peer.push_raw(MessageKind(77), Bytes::new()).await;
    assert!(gate.seen.lock().unwrap().is_empty());
    node.life.stop().await;
}
