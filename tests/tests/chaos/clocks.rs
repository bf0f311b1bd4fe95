//! Wall clocks that jump under load and over restarts: they cost deadlines, by as far as they jump,
//! and nothing else. Intervals stay true, as when somebody sets the clock of a machine.

use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::UnixMillis;
use alys_stream_tests::clock::{Clock, Skew};
use alys_stream_tests::deployment::{Deployment, dial_again_within, heartbeat_every, mint};
use alys_stream_tests::process::{PATIENCE, Served};
use alys_stream_tests::{load, seed};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::load::Callers;
use super::verdict::{ENDING, check, dead_letters};

/// How much happens.
const ACTS: usize = 20;

/// Callers that submit at the same time.
const CALLERS: u64 = 4;

const HEARTBEAT: Duration = Duration::from_millis(400);

/// A deadline that passes after what is to happen before it, on most machines.
const SOON: Duration = Duration::from_secs(3);

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Certificates of the test are over then.
const YEARS: Duration = Duration::from_secs(11 * 365 * 24 * 60 * 60);

/// Between two looks at what has no way to call back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Far below what the node does unless told: certificates that are refused are tried again then.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Processes with a clock each, that of the node first; why not, otherwise.
async fn start(governance: usize) -> Option<(Deployment, Vec<Clock>)> {
    let folder = mint(governance);
    let root = folder.path().join("d");
    (1..=governance).for_each(|index| heartbeat_every(&root, index, HEARTBEAT));
    dial_again_within(&root, BACKOFF_MAX);
    match Deployment::start_with_clocks(folder, governance).await {
        Ok(started) => Some(started),
        Err(reason) => {
            println!("skipped: no clock can be set here: {reason}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_jump_lose_nothing_and_let_nothing_expire_that_has_no_deadline() {
    let mut rng = seed::rng();
    let Some((mut deployment, mut clocks)) = start(3).await else {
        return;
    };
    let callers = Callers::start(&deployment.client(), CALLERS, &mut rng);
    for act in 0..ACTS {
        callers.until_accepted(rng.u64(1..80)).await;
        let what = jump(&mut deployment, &mut clocks, &mut rng).await;
        println!("act {act}: {what}, {} accepted", callers.accepted());
    }
    clocks.iter_mut().for_each(|clock| clock.set(Skew::None));
    deployment.node.ready().await;
    let accepted = callers.finish().await;
    println!("{} accepted over {ACTS} acts", accepted.len());
    check(deployment, accepted).await;
}

/// Sets one clock or all of them; now and then their processes are killed and start by them.
async fn jump(
    deployment: &mut Deployment,
    clocks: &mut [Clock],
    rng: &mut fastrand::Rng,
) -> String {
    let skew = match rng.u32(0..8) {
        0 | 1 => Skew::Ahead(HOUR),
        2 | 3 => Skew::Behind(HOUR),
        4 => Skew::Ahead(YEARS),
        5 => Skew::Ahead(Duration::from_millis(rng.u64(1..2000))),
        6 => Skew::Behind(Duration::from_millis(rng.u64(1..2000))),
        _ => Skew::None,
    };
    let all = 0..clocks.len();
    let which =
        if rng.u32(0..4) == 0 { all } else { rng.choice(all).map_or(0..0, |it| it..it + 1) };
    let is_killed = rng.u32(0..3) == 0;
    for place in which.clone() {
        clocks[place].set(skew);
        let process = match place.checked_sub(1) {
            None => &mut deployment.node,
            Some(governance) => &mut deployment.governance[governance],
        };
        if is_killed {
            process.kill().await;
            process.restart();
            process.ready().await;
        }
    }
    format!("clocks {which:?} are {skew:?}, killed: {is_killed}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_by_its_own_clock_as_it_jumps() {
    let Some((mut deployment, mut clocks)) = start(1).await else {
        return;
    };
    let clock = &mut clocks[0];
    for skew in [Skew::Ahead(HOUR), Skew::Behind(HOUR), Skew::Ahead(YEARS), Skew::None] {
        clock.set(skew);
        shows(&deployment.node, clock).await;
        deployment.node.kill().await;
        deployment.node.restart();
        deployment.node.ready().await;
        shows(&deployment.node, clock).await;
    }
}

/// Waits until what a node says of its connection is in the time of its clock.
async fn shows(node: &Served, clock: &Clock) {
    let shown = async {
        loop {
            let status = node.json("/status").await;
            let since = status["endpoints"][0]["since_ms"].as_u64().expect("a time");
            if since.abs_diff(clock.now().0) < u64::try_from(HOUR.as_millis()).unwrap_or(0) / 2 {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    assert!(timeout(PATIENCE, shown).await.is_ok(), "the node goes by {:?}", clock.skew());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn governance_that_is_years_ahead_refuses_certificates_until_its_clock_is_right() {
    let Some((mut deployment, mut clocks)) = start(1).await else {
        return;
    };
    clocks[1].set(Skew::Ahead(YEARS));
    deployment.governance[0].kill().await;
    deployment.governance[0].restart();
    deployment.governance[0].ready().await;
    let refused = async {
        loop {
            let status = deployment.node.json("/status").await;
            let error = status["endpoints"][0]["last_error"].as_str().unwrap_or_default();
            if error.contains("CertificateExpired") {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    assert!(timeout(PATIENCE, refused).await.is_ok(), "governance goes by {:?}", clocks[1].skew());
    let id = accept(&deployment, None).await;
    clocks[1].set(Skew::None);
    assert_eq!(outcome(&deployment, id).await, OutcomeState::Complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_expires_by_the_clock_of_the_node() {
    let Some((mut deployment, mut clocks)) = start(1).await else {
        return;
    };
    let clock = &mut clocks[0];
    deployment.governance[0].kill().await;
    let endless = accept(&deployment, None).await;
    let in_half_an_hour = |clock: &Clock| Some(clock.now().saturating_add(HOUR / 2));
    let deadline = in_half_an_hour(clock);
    let early = accept(&deployment, deadline).await;
    // Deadlines are looked at when the next one is due, at least once a minute: this one is.
    let soon = accept(&deployment, Some(clock.now().saturating_add(SOON))).await;
    clock.set(Skew::Ahead(HOUR));
    for id in [early, soon] {
        assert_eq!(outcome(&deployment, id).await, OutcomeState::TimedOut);
    }
    let later = accept(&deployment, in_half_an_hour(clock)).await;
    clock.set(Skew::Behind(HOUR));
    deployment.node.kill().await;
    deployment.node.restart();
    deployment.governance[0].restart();
    for id in [endless, later] {
        assert_eq!(outcome(&deployment, id).await, OutcomeState::Complete);
    }
    let letters = dead_letters(&deployment);
    assert_eq!(letters.len(), 2, "{letters:?}");
    let letter = letters.iter().find(|letter| letter["message_id"] == early.to_string());
    let died_at = letter.and_then(|letter| letter["died_at_ms"].as_u64()).map(UnixMillis);
    assert!(died_at >= deadline, "by the clock of the node: {letters:?}");
    let ledgers = deployment.stop().await;
    let expected = [(endless, 1), (later, 1)].into();
    assert_eq!(ledgers, [expected], "what expired was not sent, all else once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_does_not_wait_for_a_clock_that_was_set_back() {
    let Some((mut deployment, mut clocks)) = start(1).await else {
        return;
    };
    for is_killed in [false, true] {
        let refuse = json!({"refuse": {"retryable": {"after_ms": 500}}});
        deployment.governance[0].misbehave(&refuse).await;
        let id = accept(&deployment, None).await;
        until_refused(&deployment.node).await;
        clocks[0].set(Skew::Behind(HOUR * if is_killed { 2 } else { 1 }));
        if is_killed {
            deployment.node.kill().await;
            deployment.node.restart();
        }
        deployment.governance[0].misbehave(&json!({"refuse": null})).await;
        assert_eq!(outcome(&deployment, id).await, OutcomeState::Complete, "killed: {is_killed}");
    }
}

/// Waits until a message waits for its next attempt.
async fn until_refused(node: &Served) {
    let refused = async {
        let waiting = "alys_stream_outbox_retrying_messages 1";
        while !node.text("/metrics").await.lines().any(|line| line == waiting) {
            sleep(LOOK_AGAIN).await;
        }
    };
    assert!(timeout(PATIENCE, refused).await.is_ok(), "the message is refused");
}

/// Has a peg-in accepted.
async fn accept(deployment: &Deployment, deadline: Option<UnixMillis>) -> MessageId {
    let (id, mut rng) = (MessageId::mint(), fastrand::Rng::with_seed(5));
    let mut pegin = load::pegin(&mut rng, id);
    pegin.deadline_ms = UnixMillis::to_wire(deadline);
    deployment.client().submit_until_accepted(vec![pegin]).await;
    id
}

async fn outcome(deployment: &Deployment, id: MessageId) -> OutcomeState {
    let client = deployment.client();
    let outcome = timeout(ENDING, client.outcome(id)).await;
    outcome.expect("it ends in time").state()
}
