//! Seeds that found a bug in the product, each with the bug; and that a seed is a run.
//!
//! Without `--cfg tokio_unstable` a seed is not always the same run: every promise must hold all the
//! same. `cargo xtask sim --seed N` runs them as they were found.

use alys_stream_simulation::{Edition, Trial, run};

/// A seed that found something in the first edition of the world.
#[track_caller]
fn check(seed: u64) {
    check_in(Edition::First, seed);
}

/// A seed that found something in the second.
#[track_caller]
fn check_wide(seed: u64) {
    check_in(Edition::Second, seed);
}

/// A seed that found something in the third.
#[track_caller]
fn check_wider(seed: u64) {
    check_in(Edition::Third, seed);
}

#[track_caller]
fn check_in(edition: Edition, seed: u64) {
    let outcome = run(Trial { seed, edition, ..Trial::default() });
    assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
}

/// A sync of the ledger failed, and the line that was written again counted as a second application
/// (D3).
#[test]
fn a_line_of_the_ledger_that_was_written_again() {
    check(32);
    check(63);
}

/// A restored copy that a peer had found out was started again before an operator adopted it, and
/// passed for the log itself (D12): messages were settled that nobody had.
#[test]
fn a_restart_of_a_log_that_was_rolled_back() {
    [9, 26, 83, 446].into_iter().for_each(check);
}

/// A peer that had been told what is settled, and sent none of it, took a restored copy for the log
/// itself (D12).
#[test]
fn a_rolled_back_log_and_a_peer_that_was_only_told_what_is_settled() {
    [48, 237].into_iter().for_each(check);
}

/// What was under way behind a message that was refused for now was applied before it (D4, G18).
#[test]
fn a_refusal_for_now_and_what_was_under_way_behind_it() {
    check_wide(8);
}

/// A disk failed between a dead letter and its outcome, and after the restart the message passed for
/// complete (D2).
#[test]
fn a_dead_letter_without_an_outcome() {
    check(134);
}

/// A welcome named records that were not durable, and the disk failed: settled, and nowhere (D2).
#[test]
fn a_cursor_that_named_what_was_not_durable() {
    check(5191);
}

/// Adoption made the segment that a killed process had left in the cache an older one, which opening
/// does not store again (D1).
#[test]
fn a_log_that_was_adopted_with_its_end_in_the_cache() {
    check(5010);
}

/// The disk of the inbox failed, and nobody began anew: what peers had sent was asked for again and
/// again.
#[test]
fn an_inbox_that_nobody_opened_again() {
    [238, 40287].into_iter().for_each(check);
}

/// A record that was refused for now, and one of its key that was on its way by then and was taken
/// (D4).
#[test]
fn a_record_behind_one_of_its_key_that_was_refused() {
    check(20144);
}

/// Damage beside damage that was known passed for known, and was not copied aside (D5, D10).
#[test]
fn damage_beside_damage() {
    [50404, 50743].into_iter().for_each(check);
}

/// Damage at the end of a segment was passed over, because the number of the next segment was not
/// the next number: on a full disk none could be prepared under it (D5).
#[test]
fn damage_at_the_end_of_a_segment() {
    check(50650);
}

/// The run ended before a slow disk had taken what was acknowledged (D2), started machines on a disk
/// that was still full (D11), and took what a link had not taken for what was sent late (D6). An
/// update may be stored though nobody heard that it is (D9), and a copy that is restored has
/// forgotten what was settled after it was made, and sends it once more (D4). A halt that lasts is told
/// again when the StreamActor begins anew after its disk failed (D8). A second process asks a peer of the
/// published protocol for what another peer had already, and that peer cannot know (D4).
#[test]
fn what_the_checker_had_to_learn() {
    [5649, 6420, 5688, 6070, 6226, 6381, 50126, 50253].into_iter().for_each(check);
    [162, 810, 1130, 1294, 20082, 20900].into_iter().for_each(check_wide);
}

/// A message that was lost counted as delivered after one more start, because a file of ids had its id
/// (D2).
#[test]
fn a_lost_message_whose_id_is_in_a_file() {
    [21185, 22381].into_iter().for_each(check_wide);
}

/// On a full disk a segment was begun in part and left behind, and at the next start it superseded what
/// the segment before it had got since then (D1).
#[test]
fn a_segment_that_was_begun_in_part() {
    check_wide(5025);
}

/// A message that a plain peer refused was sent again, and the answer to a heartbeat from between the
/// two settled it (D2).
#[test]
fn a_barrier_between_two_attempts() {
    check_wide(2239);
}

/// What is behind a message that waits for a retry was assigned where it waits, taken back, and
/// assigned there again, without end: nothing else went on.
#[test]
fn a_message_that_was_assigned_without_end() {
    check_wider(1706);
}

/// A copy of a log sent what was over, and the governance node kept its id for it: when the copy went
/// on under a number line of its own, the message was acknowledged and never applied (D2).
#[test]
fn an_id_that_was_kept_for_a_record_that_was_not_taken() {
    check_wider(1838);
}

/// A heartbeat says what is over, too (D2).
#[test]
fn what_a_heartbeat_says_is_over() {
    check_wider(2400);
}

/// The same seed gives the same event log, byte for byte.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_is_a_run() {
    for seed in 1..12 {
        let trial = Trial { seed, ..Trial::default() };
        let (one, other) = (run(trial), run(trial));
        assert!(one.log == other.log, "seed {seed}");
    }
}

/// A crash came between a dead letter and the outcome, and once the letter was removed the request
/// passed for complete (D2).
#[test]
fn a_dead_letter_that_is_removed_before_its_outcome_is_known() {
    check_in(Edition::Fourth, 1118);
}

/// The file of openings could not be written, and what was accepted under that opening was taken for
/// what the one before it had given: a restored copy was not found out (D12).
#[test]
fn an_opening_that_was_not_written_down() {
    check_in(Edition::Fourth, 4646);
}

/// A copy of a log sends what was over when it was restored to whoever had not had it, after later
/// messages of its key (D4): the checker had to learn it.
#[test]
fn what_a_copy_sends_though_it_was_over() {
    check_in(Edition::Fourth, 6600);
}

/// A start wrote the damaged header of a segment again, and synced with it what a failed sync had
/// dropped (D11).
#[test]
fn a_header_of_a_segment_whose_sync_failed() {
    check_in(Edition::Fourth, 7636);
}

/// A refusal for good was lost with its connection, and what had been refused was sent once more and
/// taken, behind a later message of its key (D4): the checker had to learn it, also beside a second
/// process of the node, and where the refusal was not even written any more.
#[test]
fn a_refusal_that_is_not_heard() {
    [500_678, 604_570, 700_492].into_iter().for_each(|seed| check_in(Edition::Fourth, seed));
}

/// A start mended the header of a segment, its sync failed, and the next start took it for stored
/// (D11).
#[test]
fn a_header_that_a_start_mended_in_vain() {
    check_in(Edition::Fourth, 600_569);
}

/// A bit flipped in the record of a message that was replayed from the dead letters: the first one told
/// its id, and it counted as delivered (D2).
#[test]
fn a_replayed_message_that_is_lost() {
    [601_049, 603_332].into_iter().for_each(|seed| check_in(Edition::Fourth, seed));
}

/// A bit flipped in the record of a message that was over; a second process of the node found it and
/// said so, and when the first one went on with its disk the segment was gone (D5): the checker had to
/// learn it.
#[test]
fn damage_that_an_earlier_start_found() {
    check_in(Edition::Fourth, 700_830);
}

/// A bit flipped in the note of what is over, and a start wrote it again as it was: what watches the
/// disk believed it, and the checker counted to 2^56.
#[test]
fn a_damaged_note_that_is_stored_again() {
    check_in(Edition::Fourth, 900_109);
}

/// A copy of the log went on that had been made before a message was over: the peer knew its number
/// for over, and acknowledged what it did not have (D2, D12).
#[test]
fn a_copy_of_before_something_was_over() {
    [2_001_906, 2_000_117].into_iter().for_each(|seed| check_in(Edition::Fourth, seed));
}

/// A node started on a full disk with a message that was half dead, and waited for space without an
/// end before it could be seen into (D11).
#[test]
fn a_start_on_a_full_disk_with_somebody_half_dead() {
    check_in(Edition::Fourth, 5_001_899);
}

/// A message died, and before that was settled its log was adopted: under the new id nothing said that
/// it was dead, and it was delivered as well (D2).
#[test]
fn somebody_half_dead_in_a_log_that_is_adopted() {
    check_in(Edition::Fourth, 7_000_483);
}

/// The checker took several stretches that are missing altogether for one (D5).
#[test]
fn stretches_that_are_missing_are_several_gaps() {
    check_in(Edition::Fourth, 8_001_880);
}
