//! What a dead letter says of what was tried: every refusal, and who did not answer.

use super::*;

const DEADLINE: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_letter_tells_of_refusals_and_of_who_never_answered() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    life.connect(ONE);
    let deadline = Some(START.saturating_add(DEADLINE));
    life.accept(vec![Message { deadline, ..message(0, 1000, Priority::Normal) }]).await;
    assert_eq!(life.batch(ONE).await, [Seq(1)]);
    let refusal = Refusal::Retry { after: None };
    life.delivery.handle_nack(ONE, Seq(1), refusal, 9, "not now");
    site.clock.pass(Duration::from_secs(60));
    life.delivery.handle_time();
    assert_eq!(life.batch(ONE).await, [Seq(1)], "once more");
    // The stream ends, and nobody is there any more.
    life.delivery.handle_lost(ONE);
    site.clock.pass(DEADLINE);
    life.delivery.handle_time();
    assert_eq!(life.ended(id(0)).await, OutcomeState::TimedOut);

    let letter = life.letters().letters.pop().unwrap().1;
    let attempts: Vec<_> = letter.attempts.iter().map(|a| (a.at, a.code, &*a.text)).collect();
    let lost_at = START.saturating_add(Duration::from_secs(60));
    let expected = [(START, 9, "not now"), (lost_at, 0, "no answer: its stream ended")];
    assert_eq!(attempts, expected);
    assert_eq!(
        letter.error_chain,
        [
            "its deadline passed after it was sent: a peer may have acted on it",
            "gov-0: no answer: its stream ended",
            "gov-0 refused it with code 9: not now",
        ]
    );
    life.stop().await;
}
