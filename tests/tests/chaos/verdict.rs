//! What is made of a run: the checks of the simulation, on what real processes said and left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_stream_protocol::submission::OutcomeState;
use alys_stream_simulation::verdict::{Accepted, End, Fate, Ledger, judge};
use alys_stream_tests::deployment::Deployment;
use alys_stream_tests::output::lines;
use alys_stream_tests::process::run;
use alys_stream_tests::submission::Client;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// Everything that was accepted ends within this, once everything is mended; deadlines are looked at
/// once a minute.
pub(crate) const ENDING: Duration = Duration::from_secs(120);

/// No promise is broken; and as nothing had a deadline and nobody refused anything for good, every
/// message ended well.
pub(crate) async fn check(deployment: Deployment, accepted: Vec<Accepted>) {
    let ends = ends(&deployment.client(), &accepted).await;
    let mut letters = causes(&dead_letters(&deployment));
    let fate = |(message, end): (Accepted, End)| {
        let letter = letters.remove(&message.id.to_string());
        (message, Fate { end, letter })
    };
    let messages: Vec<_> = accepted.into_iter().zip(ends).map(fate).collect();
    let read = |data: &_| Ledger::read(data).expect("the ledger is readable");
    let ledgers = deployment.stop_and_read(read).await;
    let lines: Vec<_> = ledgers.iter().map(Ledger::len).collect();
    println!("{} messages, ledgers of {lines:?}", messages.len());
    let violations = judge(&messages, ledgers);
    assert!(violations.is_empty(), "{violations:#?}");
    let is_well = |fate: &Fate| fate.end == End::Ended(OutcomeState::Complete);
    let unwell: Vec<_> = messages.iter().filter(|(_, fate)| !is_well(fate)).collect();
    assert!(unwell.is_empty(), "nothing had a reason to die: {unwell:#?}");
    assert!(letters.is_empty(), "dead letters of what nobody was told is accepted: {letters:#?}");
}

/// What the node says of each message.
async fn ends(client: &Client, accepted: &[Accepted]) -> Vec<End> {
    let give_up_at = Instant::now() + ENDING;
    let mut ends = Vec::new();
    for message in accepted {
        ends.push(match timeout_at(give_up_at, client.outcome_if_known(message.id)).await {
            Ok(Some(outcome)) => End::Ended(outcome.state()),
            Ok(None) => End::Unknown,
            Err(_) => End::Unended,
        });
    }
    ends
}

pub(crate) fn dead_letters(deployment: &Deployment) -> Vec<Value> {
    lines(&run(["dlq", "list", "--json", "--node", &deployment.node_address()]))
}

/// The cause of each dead letter, by the id of its message.
fn causes(letters: &[Value]) -> BTreeMap<String, String> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    letters.iter().map(|it| (word(&it["message_id"]), word(&it["cause"]))).collect()
}
