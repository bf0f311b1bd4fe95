//! Halts and resumes.

use super::*;

#[test]
fn a_halt_is_told_before_it_is_stored_and_before_all_else() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[1, 2, 4]).signed(&[1, 2])).unwrap();
    let taken = machine.handle_update(at(2), "b", &halt(1).signed(&[1, 2])).unwrap();
    assert_eq!(taken, Taken::Halted);
    let words = actions(&mut machine);
    assert_eq!(words.first().map(String::as_str), Some("tell halt"), "A13");
    assert_eq!(words.last().map(String::as_str), Some("store emergency"));
    assert_eq!(machine.halted().map(|it| it.endpoint.as_str()), Some("b"));
}

#[test]
fn a_resume_is_stored_before_it_is_told() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &halt(1).signed(&[1, 2])).unwrap();
    actions(&mut machine);
    let taken = machine.handle_update(at(2), "a", &resume(2).signed(&[2, 3])).unwrap();
    assert_eq!(taken, Taken::Resumed);
    assert_eq!(actions(&mut machine), ["store emergency", "tell resumed"], "A13");
    assert!(machine.halted().is_none());
}

#[test]
fn a_bad_signature_neither_halts_nor_resumes() {
    let mut machine = machine();
    for seeds in [&[][..], &[1], &[4, 5], &[1, 1]] {
        let refused = machine.handle_update(at(1), "evil", &halt(1).signed(seeds));
        assert!(refused.is_err(), "{seeds:?}");
        assert!(machine.halted().is_none() && machine.peek_halt().is_none());
    }
    machine.handle_update(at(2), "a", &halt(1).signed(&[1, 2])).unwrap();
    actions(&mut machine);
    let refused = machine.handle_update(at(3), "evil", &resume(2).signed(&[1])).unwrap_err();
    assert!(matches!(refused, Refused::Signature { .. }), "{refused}");
    assert!(machine.halted().is_some());
    assert!(actions(&mut machine).is_empty());
    assert!(machine.counts().refused["signature"] >= 4);
}

#[test]
fn an_old_resume_does_not_end_a_new_halt_and_an_old_halt_does_not_return() {
    let mut machine = machine();
    let old_halt = halt(1).signed(&[1, 2]);
    let old_resume = resume(2).signed(&[1, 2]);
    machine.handle_update(at(1), "a", &old_halt).unwrap();
    machine.handle_update(at(2), "a", &old_resume).unwrap();
    let refused = machine.handle_update(at(3), "evil", &old_halt).unwrap_err();
    assert!(matches!(refused, Refused::OldVersion { .. }), "{refused}");
    assert_eq!(machine.handle_update(at(3), "b", &old_resume).unwrap(), Taken::AlreadyKnown);
    machine.handle_update(at(4), "a", &halt(3).signed(&[1, 2])).unwrap();
    let refused = machine.handle_update(at(5), "evil", &old_resume).unwrap_err();
    assert!(matches!(refused, Refused::OldVersion { .. }), "{refused}");
    assert!(machine.halted().is_some());
}

#[test]
fn a_halt_without_a_version_acts_once() {
    let mut machine = machine();
    let bare = halt(None).signed(&[1, 2]);
    assert_eq!(machine.handle_update(at(1), "a", &bare).unwrap(), Taken::Halted);
    assert_eq!(machine.handle_update(at(2), "b", &bare).unwrap(), Taken::AlreadyKnown);
    let refused = machine.handle_update(at(3), "a", &resume(None).signed(&[1, 2])).unwrap_err();
    assert!(matches!(refused, Refused::ResumeWithoutVersion { .. }), "{refused}");
    machine.handle_update(at(4), "a", &resume(1).signed(&[1, 2])).unwrap();
    let refused = machine.handle_update(at(5), "evil", &bare).unwrap_err();
    assert!(matches!(refused, Refused::ReplayedHalt), "{refused}");
    assert!(machine.halted().is_none());
    // Anything else in it makes it another one.
    let other = halt(None).parameter("reason", "again").signed(&[1, 2]);
    assert_eq!(machine.handle_update(at(6), "a", &other).unwrap(), Taken::Halted);
    assert_eq!(machine.halted().map(|it| it.reason.as_str()), Some("again"));
}

#[test]
fn halts_without_a_version_are_bounded_without_forgetting() {
    let mut machine = machine();
    let number = |number: usize| halt(None).parameter("n", &number.to_string()).signed(&[1, 2]);
    for round in 0..UNVERSIONED_HALTS_MAX {
        machine.handle_update(at(1), "a", &number(round)).unwrap();
        actions(&mut machine);
    }
    let refused = machine.handle_update(at(2), "a", &number(1000)).unwrap_err();
    assert!(matches!(refused, Refused::UnversionedHalts), "{refused}");
    machine.handle_update(at(3), "a", &resume(1).signed(&[1, 2])).unwrap();
    let refused = machine.handle_update(at(4), "evil", &number(0)).unwrap_err();
    assert!(matches!(refused, Refused::ReplayedHalt), "{refused}");
    assert!(machine.handle_update(at(5), "a", &halt(2).signed(&[1, 2])).is_ok());
}

#[test]
fn what_nobody_knows_halts() {
    for value in ["halt", "rezume", "RESUME", ""] {
        let mut machine = machine();
        let update = halt(1).parameter(EMERGENCY_PARAMETER, value).signed(&[1, 2]);
        assert_eq!(machine.handle_update(at(1), "a", &update).unwrap(), Taken::Halted, "{value}");
    }
}

#[test]
fn contradicting_emergencies_alert_once_and_change_nothing() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &halt(1).signed(&[1, 2])).unwrap();
    actions(&mut machine);
    let other = resume(1).signed(&[1, 3]);
    for expected in [vec!["alert 1 in force true".to_owned()], vec![]] {
        let refused = machine.handle_update(at(2), "b", &other).unwrap_err();
        assert!(matches!(refused, Refused::Conflict { .. }), "{refused}");
        assert_eq!(actions(&mut machine), expected);
    }
    assert!(machine.halted().is_some());
}

#[test]
fn emergencies_do_not_use_up_versions_of_the_federation() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(7, &[1, 2, 4]).signed(&[1, 2])).unwrap();
    // Nobody has to look up the version of the federation to halt.
    assert_eq!(machine.handle_update(at(2), "a", &halt(1).signed(&[1, 2])).unwrap(), Taken::Halted);
    assert!(machine.handle_update(at(3), "a", &draft(8, &[1, 2, 5]).signed(&[1, 2])).is_ok());
    assert!(machine.halted().is_some(), "an update does not end a halt");
}

#[test]
fn members_that_were_replaced_halt_nothing() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[4, 5, 6]).signed(&[1, 2])).unwrap();
    let refused = machine.handle_update(at(2), "evil", &halt(1).signed(&[1, 2, 3])).unwrap_err();
    assert!(matches!(refused, Refused::Signature { .. }), "{refused}");
    assert!(machine.handle_update(at(3), "a", &halt(1).signed(&[4, 5])).is_ok());
}
