//! Every `StatusCode` and every `ErrorCode` of the published contract, and what our node makes of
//! each: settled, sent again (when the peer said so), registered again, or a dead letter at once.

#![expect(clippy::print_stdout, reason = "what was seen is shown")]

use std::collections::BTreeMap;

use alys_stream_protocol::governance::{ErrorCode, StatusCode};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{OutcomeState, Submission, submission::Payload};
use alys_stream_tests::load;
use serde_json::{Value, json};

use super::foreign::{Arrival, Foreign};

/// What a message comes to that was answered so once; every later answer is SUCCESS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is settled, and sent once.
    Settled,
    /// It is sent again, and settled then.
    Again,
    /// It is sent again, a second later or more.
    Later,
    /// The node registers on another stream, and sends it there.
    Registered,
    /// It is a dead letter, and sent once.
    Dead,
}

/// Seconds in every `RetryInfo`, and the delay of statuses that carry none.
const RETRY_SECONDS: u64 = 1;

/// The answers, by the amount of the peg-in that gets it. Codes come first, then statuses.
const STATUSES: u64 = 1000;

const fn fate_of_status(status: StatusCode) -> Fate {
    match status {
        // It says nothing: the heartbeat barrier settles.
        StatusCode::Unspecified | StatusCode::Success => Fate::Settled,
        StatusCode::Error => Fate::Again,
        StatusCode::Timeout | StatusCode::RateLimited | StatusCode::ServiceUnavailable => {
            Fate::Later
        }
        StatusCode::Unauthorized => Fate::Registered,
    }
}

const fn fate_of_code(code: ErrorCode) -> Fate {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::AuthorizationFailed
        | ErrorCode::InvalidSignature => Fate::Dead,
        ErrorCode::AuthenticationFailed => Fate::Registered,
        ErrorCode::Unspecified
        | ErrorCode::RateLimited
        | ErrorCode::ServiceUnavailable
        | ErrorCode::Timeout
        | ErrorCode::InternalError
        | ErrorCode::InsufficientSignatures
        | ErrorCode::FederationError => Fate::Later,
    }
}

/// A number that the contract does not know is like none.
const UNKNOWN: i32 = 77;

/// Every answer there is: the amount that gets it, the answer, and what must come of it.
fn cases() -> Vec<(u64, Value, Fate)> {
    let mut cases = Vec::new();
    for number in (0..).map_while(|number| ErrorCode::try_from(number).ok()) {
        let error = i32::from(number);
        let answer = json!({"error": error, "retry_after": RETRY_SECONDS});
        cases.push((1 + u64::try_from(error).unwrap(), answer, fate_of_code(number)));
    }
    assert_eq!(cases.len(), 11, "all of them");
    let unknown = json!({"error": UNKNOWN, "retry_after": RETRY_SECONDS});
    cases.push((1 + u64::try_from(UNKNOWN).unwrap(), unknown, Fate::Later));
    for number in (0..).map_while(|number| StatusCode::try_from(number).ok()) {
        let status = i32::from(number);
        let amount = STATUSES + u64::try_from(status).unwrap();
        cases.push((amount, json!({"status": status}), fate_of_status(number)));
    }
    assert_eq!(cases.len(), 11 + 1 + 7, "all of them");
    cases
}

/// A peg-in of this amount, which decides how the peer answers it.
pub(crate) fn pegin_of(amount: u64, id: MessageId) -> Submission {
    let mut submission = load::pegin(&mut fastrand::Rng::with_seed(amount), id);
    if let Some(Payload::PeginNotification(pegin)) = &mut submission.payload {
        pegin.amount = amount;
    }
    submission
}

/// What became of one message, by what the peer has seen of it and what the node says.
fn fate(arrivals: &[&Arrival], state: OutcomeState) -> Option<Fate> {
    match (arrivals, state) {
        ([_], OutcomeState::Complete) => Some(Fate::Settled),
        ([_], OutcomeState::Failed) => Some(Fate::Dead),
        ([first, second], OutcomeState::Complete) if first.stream != second.stream => {
            Some(Fate::Registered)
        }
        ([first, second], OutcomeState::Complete)
            if second.at_ms - first.at_ms >= RETRY_SECONDS * 1000 =>
        {
            Some(Fate::Later)
        }
        ([_, _], OutcomeState::Complete) => Some(Fate::Again),
        _ => None,
    }
}

async fn settle(foreign: &mut Foreign, cases: &[(u64, Value, Fate)]) {
    let ids: BTreeMap<u64, MessageId> =
        cases.iter().map(|(amount, ..)| (*amount, MessageId::mint())).collect();
    let batch = ids.iter().map(|(amount, id)| pegin_of(*amount, *id)).collect();
    foreign.client.submit_until_accepted(batch).await;
    let mut outcomes = BTreeMap::new();
    for (amount, id) in &ids {
        outcomes.insert(*amount, foreign.client.outcome(*id).await);
    }
    // Everything that the peer was sent of these came before this one.
    let last = MessageId::mint();
    foreign.client.submit_until_accepted(vec![pegin_of(u64::MAX >> 16, last)]).await;
    foreign.client.outcome(last).await;
    let last = last.to_string();
    let arrivals = foreign.arrivals("pegin_notification", |arrival| arrival.id == last).await;
    for (amount, answer, expected) in cases {
        let (id, outcome) = (ids[amount].to_string(), &outcomes[amount]);
        let of_it: Vec<_> = arrivals.iter().filter(|arrival| arrival.id == id).collect();
        let found = fate(&of_it, outcome.state());
        println!("{answer}: {found:?} {:?}", outcome.reason);
        // Without a delay of the peer, ours is drawn; a busy machine makes it longer.
        let is_so =
            found == Some(*expected) || (*expected == Fate::Again && found == Some(Fate::Later));
        assert!(is_so, "{answer}: {expected:?} {found:?} {of_it:?} {outcome:?}");
        if *expected == Fate::Dead {
            assert!(outcome.reason.contains("as it was told"), "{}", outcome.reason);
        }
    }
}

#[tokio::test]
async fn every_status_and_error_code_of_a_plain_peer_means_what_it_says() {
    let cases = cases();
    let answers: BTreeMap<String, &Value> =
        cases.iter().map(|(amount, answer, _)| (amount.to_string(), answer)).collect();
    let answers = serde_json::to_string(&answers).unwrap();
    let mut foreign = Foreign::start(&["--answers", &answers]).await;
    let (ends, stays): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|(_, _, fate)| *fate == Fate::Registered);
    settle(&mut foreign, &stays).await;
    // Each of these ends the stream, with all that is on it: one after the other.
    for case in ends {
        settle(&mut foreign, std::slice::from_ref(&case)).await;
    }
    foreign.node.stop().await;
}
