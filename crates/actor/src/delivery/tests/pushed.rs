//! What governance pushes, from the exchange to the actors and back to the acknowledgement (D8).

use std::sync::atomic::{AtomicU64, Ordering};

use alys_stream_config::AgreementPolicy;
use alys_stream_protocol::governance::{
    FederationUpdate, ProposalNotification, ProposalType, StreamResponse, stream_response::Payload,
};
use alys_stream_protocol::message::{Epoch, Forgotten, Opening};
use alys_stream_transport::exchange::{Exchange as _, InboundRecord, NackKind, PeerLog, Verdict};

use super::*;
use crate::delivery::duties;
use crate::exchange::EndpointExchange;
use crate::failure::FailureKind;
use crate::federation::tests::{draft, root};
use crate::links::Links;
use crate::neighbours::tests::{Bad, Tree, bad_chain};

/// One life of a node whose actors are there, with the lanes running.
pub(super) struct Governed {
    pub(super) life: Life,
    pub(super) tree: Tree,
}

/// Tells sessions apart: each begins with other records.
static LOGS: AtomicU64 = AtomicU64::new(1);

impl Governed {
    /// A node with the federation of [`root`] and so many endpoints.
    pub(super) fn site(endpoints: u16) -> Site {
        let mut site = Site::new(endpoints, Bounds::default());
        site.config.federation = Some(root());
        site
    }

    pub(super) async fn start(site: &Site) -> Self {
        let tree = Tree::start().await;
        let mut life = site.start_with(tree.neighbours.clone()).await;
        let around = Surroundings::new(Arc::clone(&life.metrics), site.clock.clone());
        let links = Arc::new(Links::new(&site.config, None, &around));
        for name in LaneName::ALL {
            let (delivery, links) = (Arc::clone(&life.delivery), Arc::clone(&links));
            life.drivers.spawn(duties::run(delivery, links, name));
        }
        Self { life, tree }
    }

    /// Keeps paused time from passing by itself while a disk is at work: it passes when the test says
    /// so, and only then.
    pub(super) fn hold_time(&mut self) {
        self.life.drivers.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Waits for something that the drivers do by themselves.
    pub(super) async fn until(&self, is_so: impl Fn(&Delivery) -> bool) {
        while !is_so(&self.life.delivery) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until nothing that was pushed waits for an actor.
    pub(super) async fn idle(&self) {
        self.until(|delivery| LaneName::ALL.iter().all(|name| delivery.duties.waiting(*name) == 0))
            .await;
    }

    /// How often something went wrong.
    pub(super) fn failed(&self, kind: FailureKind) -> u64 {
        let failures = self.life.delivery.failures.snapshot();
        failures.counts().get(&kind).copied().unwrap_or_default()
    }

    /// The version in force.
    pub(super) fn in_force(&self) -> Version {
        self.life.delivery.in_force().unwrap().version
    }

    /// What is in the inbox and not handled, were the node to be started again now.
    pub(super) async fn crash(self) {
        self.life.stop().await;
    }
}

/// A governance node, with a log of its own.
pub(super) struct Peer {
    pub(super) exchange: EndpointExchange,
    pub(super) log: LogId,
    sent: u64,
}

impl Peer {
    pub(super) fn connect(node: &Governed, endpoint: u16) -> Self {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        Self::resume(node, endpoint, LogId::new(u128::from(number).to_be_bytes()))
    }

    /// Begins a session of a log that may be known.
    pub(super) fn resume(node: &Governed, endpoint: u16, log: LogId) -> Self {
        let exchange = EndpointExchange::new(Arc::clone(&node.life.delivery), EndpointId(endpoint));
        let peer = PeerLog {
            peer_id: format!("gov-{endpoint}"),
            log_id: log,
            opening: Epoch(1).into(),
            next_seq: Seq(1_000_000),
            settled_below: Seq(1),
            received: SeqSet::new(),
            highest_seen: Seq(0),
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
            payload_bytes_max: u32::MAX,
        };
        exchange.established(&peer).unwrap();
        Self { exchange, log, sent: 0 }
    }

    /// Sends something as a new record.
    pub(super) async fn push(&mut self, response: &StreamResponse) -> (Seq, Verdict) {
        self.push_raw(response.kind(), response.encode_to_vec().into()).await
    }

    pub(super) async fn push_raw(&mut self, kind: MessageKind, bytes: Bytes) -> (Seq, Verdict) {
        self.sent += 1;
        let seq = Seq(self.sent);
        (seq, self.send(seq, kind, bytes).await)
    }

    /// Sends a record, perhaps once more.
    pub(super) async fn send(&self, seq: Seq, kind: MessageKind, payload: Bytes) -> Verdict {
        let message = Message {
            id: MessageId::new((self.sent_as(seq)).to_be_bytes()),
            kind,
            priority: Priority::Normal,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload,
        };
        let verdicts = self.exchange.receive(vec![InboundRecord { seq, message }]).await.unwrap();
        verdicts.into_iter().next().unwrap()
    }

    fn sent_as(&self, seq: Seq) -> u128 {
        u128::from_be_bytes(*self.log.as_bytes()) << 64 | u128::from(seq.0)
    }

    /// Pushes something, and waits until it is acknowledged.
    pub(super) async fn hand_over(&mut self, node: &Governed, response: &StreamResponse) -> Seq {
        let (seq, verdict) = self.push(response).await;
        assert!(is_taken(&verdict), "{verdict:?}");
        self.acknowledged(node, seq).await;
        seq
    }

    /// Waits until a record is dealt with, and acknowledged or about to be.
    pub(super) async fn acknowledged(&self, node: &Governed, seq: Seq) {
        node.until(|delivery| !delivery.duties.is_open(self.log, seq)).await;
        assert!(self.exchange.receive_cursor(self.log).received.contains(seq), "D8");
    }
}

/// Whether it is stored, and acknowledged now or later.
pub(super) fn is_taken(verdict: &Verdict) -> bool {
    *verdict == Verdict::Stored || is_in_progress(verdict)
}

pub(super) fn is_in_progress(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused { kind: NackKind::InProgress, .. })
}

/// Whether the peer is to send it again later.
pub(super) fn is_busy(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused { kind: NackKind::Retry { after: Some(_) }, .. })
}

pub(super) fn update(update: &FederationUpdate) -> StreamResponse {
    StreamResponse { metadata: None, payload: Some(Payload::FederationUpdate(update.clone())) }
}

/// A proposal with so many bytes of content, to be voted on for an hour.
pub(super) fn proposal(id: &str, bytes: usize) -> StreamResponse {
    let proposal = ProposalNotification {
        proposal_id: id.into(),
        proposal_type: ProposalType::Upgrade.into(),
        proposal_data: vec![7; bytes].into(),
        voting_deadline: START.as_unix_seconds() + 3600,
        required_votes: 2,
    };
    StreamResponse { metadata: None, payload: Some(Payload::ProposalNotification(proposal)) }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_was_handled() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    node.tree.neighbours.chain.attach(bad_chain(Bad::Defers).await);
    let mut peer = Peer::connect(&node, 0);
    let (seq, verdict) = peer.push(&update(&draft(1, &[1, 2, 4]).signed(&[1, 2]))).await;
    assert!(is_in_progress(&verdict), "{verdict:?}");
    assert!(!peer.exchange.receive_cursor(peer.log).received.contains(seq));
    assert_eq!(node.life.delivery.duties.owed(peer.log), []);
    node.tree.attach_chain();
    peer.acknowledged(&node, seq).await;
    // In the session in which it was told so, without being asked.
    assert_eq!(node.life.delivery.duties.owed(peer.log), [seq]);
    assert_eq!(node.tree.chain().await.federation, Some(Version(1)));
    // A session that begins now says it in its handshake.
    let peer = Peer::resume(&node, 0, peer.log);
    assert_eq!(node.life.delivery.duties.owed(peer.log), []);
    node.life.stop().await;
}

#[tokio::test]
async fn what_was_stored_and_not_handled_is_handed_on_again_after_a_crash() {
    let site = Governed::site(2);
    let node = Governed::start(&site).await;
    node.tree.neighbours.chain.attach(bad_chain(Bad::Defers).await);
    let mut peer = Peer::connect(&node, 0);
    let (of_update, verdict) = peer.push(&update(&draft(1, &[1, 2, 4]).signed(&[1, 2]))).await;
    assert!(is_in_progress(&verdict), "{verdict:?}");
    let (of_proposal, verdict) = peer.push(&proposal("p", 10)).await;
    assert!(is_in_progress(&verdict), "{verdict:?}");
    let log = peer.log;
    node.crash().await;

    // The update needs nobody to vouch for it; the proposal needs its endpoint.
    let node = Governed::start(&site).await;
    node.until(|delivery| !delivery.duties.is_open(log, of_update)).await;
    assert_eq!(node.in_force(), Version(1));
    assert!(node.life.delivery.duties.is_open(log, of_proposal), "not attributed yet");
    let peer = Peer::resume(&node, 0, log);
    let again = peer.send(of_proposal, MessageKind::PROPOSAL_NOTIFICATION, Bytes::new()).await;
    assert!(matches!(again, Verdict::Refused { kind: NackKind::Terminal, .. }), "{again:?}");
    peer.acknowledged(&node, of_proposal).await;
    let chain = node.tree.chain().await;
    assert_eq!((chain.federation, chain.proposals_total), (Some(Version(1)), 1));
    assert_eq!(node.tree.network().await.rebroadcast, [Version(1)], "once");
    node.crash().await;

    // And never again.
    let node = Governed::start(&site).await;
    node.idle().await;
    assert_eq!(node.tree.chain().await.proposals_total, 0);
    assert!(Peer::resume(&node, 0, log).exchange.receive_cursor(log).received.contains(of_update));
    node.life.stop().await;
}

#[tokio::test]
async fn the_same_push_over_two_endpoints_reaches_its_target_once() {
    let site = Governed::site(2);
    let node = Governed::start(&site).await;
    let (mut one, mut other) = (Peer::connect(&node, 0), Peer::connect(&node, 1));
    let pushed = update(&draft(1, &[1, 2, 4]).signed(&[1, 2]));
    for peer in [&mut one, &mut other] {
        peer.hand_over(&node, &pushed).await;
        peer.hand_over(&node, &proposal("p", 10)).await;
    }
    // And over a plain stream, which has no numbers.
    let plain = EndpointExchange::new(Arc::clone(&node.life.delivery), EndpointId(1));
    for response in [pushed, proposal("p", 10)] {
        plain.receive_unsequenced(response.clone(), response.encode_to_vec().into());
    }
    node.idle().await;
    let chain = node.tree.chain().await;
    assert_eq!((chain.federation, chain.proposals_total), (Some(Version(1)), 1));
    assert_eq!(node.tree.network().await.rebroadcast, [Version(1)]);
    node.life.stop().await;
}

#[tokio::test]
async fn proposals_are_told_once_each_and_closed_at_their_deadline() {
    let site = Governed::site(1);
    let node = Governed::start(&site).await;
    let mut peer = Peer::connect(&node, 0);
    for id in ["a", "b", "a"] {
        peer.hand_over(&node, &proposal(id, 10)).await;
    }
    let open = vec![("a".to_owned(), false), ("b".to_owned(), false)];
    assert_eq!(node.tree.chain().await.proposals, open);
    site.clock.pass(Duration::from_secs(3600));
    node.life.delivery.duties.proposals.handle_timeout(site.clock.now()).await.unwrap();
    let closed = vec![("a".to_owned(), true), ("b".to_owned(), true)];
    assert_eq!(node.tree.chain().await.proposals, closed);
    // It is too late for one more, and that is no reason to keep it.
    peer.hand_over(&node, &proposal("c", 10)).await;
    assert_eq!(node.tree.chain().await.proposals_total, 2);
    assert_eq!(node.failed(FailureKind::ProposalUnusable), 1);
    node.life.stop().await;
}

#[tokio::test]
async fn a_majority_of_endpoints_must_say_the_same() {
    let mut site = Governed::site(3);
    site.config.agreement.federation = AgreementPolicy::Majority;
    site.config.agreement.proposals = AgreementPolicy::Majority;
    let node = Governed::start(&site).await;
    let mut peers: Vec<_> = (0..3).map(|endpoint| Peer::connect(&node, endpoint)).collect();
    let pushed = [update(&draft(1, &[1, 2, 4]).signed(&[1, 2])), proposal("p", 10)];
    for _ in 0..2 {
        for it in &pushed {
            // It is kept, so its peer needs to hear no more.
            peers[0].hand_over(&node, it).await;
        }
        assert_eq!((node.in_force(), node.tree.chain().await.proposals_total), (Version(0), 0));
    }
    let log = peers[0].log;
    node.crash().await;

    // What is kept is counted again after a restart, once its endpoint is known.
    let node = Governed::start(&site).await;
    peers = (1..3).map(|endpoint| Peer::connect(&node, endpoint)).collect();
    peers.insert(0, Peer::resume(&node, 0, log));
    for it in &pushed {
        peers[1].hand_over(&node, it).await;
    }
    node.idle().await;
    assert_eq!((node.in_force(), node.tree.chain().await.proposals_total), (Version(1), 1));
    for it in &pushed {
        peers[2].hand_over(&node, it).await;
    }
    node.idle().await;
    assert_eq!(node.tree.network().await.rebroadcast, [Version(1)]);
    assert_eq!(node.tree.chain().await.proposals_total, 1);
    node.life.stop().await;
}

#[tokio::test]
async fn what_one_endpoint_alone_proposes_leaves_room_for_what_others_agree_on() {
    let mut site = Governed::site(3);
    site.config.agreement.proposals = AgreementPolicy::Majority;
    let node = Governed::start(&site).await;
    let mut alone = Peer::connect(&node, 0);
    let mut busy = 0;
    for number in 0..LANE_ITEMS_MAX + 50 {
        let (_, verdict) = alone.push(&proposal(&format!("alone-{number}"), 10)).await;
        busy += usize::from(is_busy(&verdict));
    }
    assert_eq!(busy, 50, "its own room is bounded");
    for endpoint in [1, 2] {
        Peer::connect(&node, endpoint).hand_over(&node, &proposal("agreed", 10)).await;
    }
    assert_eq!(node.tree.chain().await.proposals, [("agreed".to_owned(), false)]);
    node.life.stop().await;
}

#[tokio::test]
async fn open_signature_requests_keep_the_federation_they_were_created_under() {
    let site = Governed::site(3);
    let node = Governed::start(&site).await;
    let life = &node.life;
    life.accept(vec![answers::signature_request(0)]).await;
    let mut peer = Peer::connect(&node, 2);
    peer.hand_over(&node, &update(&draft(1, &[4, 5, 6]).signed(&[1, 2]))).await;
    assert_eq!(node.in_force(), Version(1));
    life.accept(vec![answers::signature_request(1)]).await;
    // Members of the old federation sign the old request, and not the new one.
    for number in [0, 1] {
        answers::answer(life, ONE, number, 0);
        answers::answer(life, EndpointId(1), number, 2);
    }
    assert_eq!(life.ended(id(0)).await, OutcomeState::Complete);
    let outcome = life.delivery.follow(id(1)).unwrap().next().await.unwrap();
    assert_eq!((outcome.inputs_signed, outcome.state()), (0, OutcomeState::Pending));
    assert!(life.delivery.counts().signatures_invalid > 0);
    node.life.stop().await;
}
