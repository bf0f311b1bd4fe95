//! Every gRPC status that a peer may end a stream with, and what our node makes of each.

use std::collections::BTreeMap;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::link;
use serde_json::{Value, json};

use super::foreign::Foreign;
use super::statuses::pegin_of;

/// Every gRPC code as grpcio names it, part of what the status of the node then says, and whether
/// only an operator can mend it.
const CODES: [(&str, &str, bool); 17] = [
    ("OK", "the peer ended the stream", false),
    ("CANCELLED", "the connection broke: as it was told", false),
    ("UNKNOWN", "the connection broke: as it was told", false),
    ("INVALID_ARGUMENT", "gRPC status InvalidArgument: as it was told", false),
    ("DEADLINE_EXCEEDED", "gRPC status DeadlineExceeded: as it was told", false),
    ("NOT_FOUND", "gRPC status NotFound: as it was told", false),
    ("ALREADY_EXISTS", "gRPC status AlreadyExists: as it was told", false),
    ("PERMISSION_DENIED", "REFUSE_CODE_FORBIDDEN: as it was told", true),
    ("RESOURCE_EXHAUSTED", "gRPC status ResourceExhausted: as it was told", false),
    ("FAILED_PRECONDITION", "gRPC status FailedPrecondition: as it was told", false),
    ("ABORTED", "gRPC status Aborted: as it was told", false),
    ("OUT_OF_RANGE", "gRPC status OutOfRange: as it was told", false),
    ("UNIMPLEMENTED", "gRPC status Unimplemented: as it was told", false),
    ("INTERNAL", "gRPC status Internal: as it was told", false),
    ("UNAVAILABLE", "the connection broke: as it was told", false),
    ("DATA_LOSS", "gRPC status DataLoss: as it was told", false),
    ("UNAUTHENTICATED", "REFUSE_CODE_UNAUTHENTICATED: as it was told", true),
];

#[tokio::test]
async fn every_grpc_status_ends_the_stream_and_loses_nothing() {
    let amount = |index: usize| 1 + u64::try_from(index).unwrap();
    let answers: BTreeMap<String, Value> = CODES
        .iter()
        .enumerate()
        .map(|(index, (code, ..))| (amount(index).to_string(), json!({"grpc": code})))
        .collect();
    let answers = serde_json::to_string(&answers).unwrap();
    let mut foreign = Foreign::start(&["--answers", &answers]).await;
    for (index, (code, words, is_permanent)) in CODES.into_iter().enumerate() {
        let up = link::until_up(&foreign.node, "governance-1").await;
        let attempts = up["attempts"].as_u64().unwrap();
        let id = MessageId::mint();
        foreign.client.submit_until_accepted(vec![pegin_of(amount(index), id)]).await;
        let seen = link::until(&foreign.node, "governance-1", |endpoint| {
            endpoint["last_error"].as_str().is_some_and(|error| error.contains(words))
                && link::changes(endpoint).last().is_some()
        })
        .await;
        println!("{code}: {}", seen["last_error"]);
        if is_permanent {
            assert_eq!(seen["permanent"], true, "{code}: {seen:#}");
            // It waits as long as it may, unless somebody says that it is mended.
            link::reconnect(foreign.node_address.clone(), "governance-1".to_owned()).await;
        }
        let outcome = foreign.client.outcome(id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{code}: {}", outcome.reason);
        let id = id.to_string();
        let mut times = 0;
        let arrivals = foreign
            .arrivals("pegin_notification", |arrival| {
                times += u64::from(arrival.id == id);
                times == 2
            })
            .await;
        let streams: Vec<_> = arrivals.iter().map(|arrival| arrival.stream).collect();
        assert!(streams.windows(2).all(|pair| pair[0] < pair[1]), "{code}: {arrivals:?}");
        let now = link::until_up(&foreign.node, "governance-1").await;
        assert!(now["attempts"].as_u64().unwrap() > attempts, "{code}: it was dialled again");
        assert_eq!(now["permanent"], false, "{code}");
    }
    foreign.node.stop().await;
}
