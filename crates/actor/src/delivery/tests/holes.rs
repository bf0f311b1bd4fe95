//! What cannot be read back is told, not skipped (D5).

use super::*;

#[tokio::test]
async fn what_cannot_be_read_back_is_a_hole_that_peers_are_told_of() {
    let site = Site::new(1, Bounds::default());
    let life = site.start().await;
    life.accept(messages(0..3)).await;
    life.connect(ONE);
    let batch = life.batch(ONE).await;
    let first = id(0);
    let mut follow = life.delivery.follow(first).unwrap();
    assert!(life.delivery.holes.take().is_empty());
    life.delivery.handle_unreadable(batch[0]);
    let holes: Vec<_> = life.delivery.holes.take().iter().collect();
    assert_eq!(holes, [batch[0]]);
    assert!(life.metric("alys_stream_gaps_total 1"));
    // It did not end well, whether somebody waits for it or asks later.
    assert_eq!(follow.finished_outcome().await.unwrap().state(), OutcomeState::Failed);
    assert_eq!(life.ended(first).await, OutcomeState::Failed);
    life.stop().await;
    // Nor after a restart, when it counts as settled.
    let life = site.start().await;
    assert_eq!(life.ended(first).await, OutcomeState::Failed);
    life.stop().await;
}
