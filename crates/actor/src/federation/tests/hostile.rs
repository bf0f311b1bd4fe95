//! What must not be acted on.

use super::*;

/// Handles it, expects a refusal, and that nothing else happened.
fn refuse(machine: &mut Federations, update: &Arc<FederationUpdate>) -> Refused {
    let (before, newest) = (Arc::clone(machine.in_force()), machine.newest());
    let scheduled = machine.scheduled().count();
    let refused = machine.handle_update(at(9), "evil", update).unwrap_err();
    assert_eq!((&before, newest), (machine.in_force(), machine.newest()), "{refused}");
    assert_eq!(machine.scheduled().count(), scheduled);
    assert!(machine.halted().is_none());
    assert!(machine.peek_halt().is_none() && machine.peek_action().is_none(), "{refused}");
    refused
}

#[test]
fn unsigned_and_under_signed_updates_are_refused() {
    let mut machine = machine();
    let good = draft(1, &[1, 2, 4]);
    let refused = refuse(&mut machine, &Arc::new(good.unsigned()));
    assert!(matches!(refused, Refused::Invalid(_)), "{refused}");
    for seeds in [&[1][..], &[1, 1, 1], &[1, 4], &[4, 5, 6]] {
        let refused = refuse(&mut machine, &good.signed(seeds));
        assert!(matches!(refused, Refused::Signature { .. }), "{seeds:?}: {refused}");
    }
    assert_eq!(machine.counts().refused["signature"], 4);
    assert_eq!(machine.counts().refused["invalid"], 1);
}

#[test]
fn a_signature_of_another_content_is_worth_nothing() {
    let mut machine = machine();
    let mut update = FederationUpdate::clone(&draft(1, &[1, 2, 4]).signed(&[1, 2]));
    update.effective_height = 7;
    let refused = refuse(&mut machine, &Arc::new(update));
    assert!(matches!(refused, Refused::Signature { .. }), "{refused}");
}

#[test]
fn a_replayed_update_does_nothing_and_an_older_version_is_refused() {
    let mut machine = machine();
    let second = draft(2, &[1, 2, 4]).signed(&[1, 2]);
    machine.handle_update(at(1), "a", &second).unwrap();
    actions(&mut machine);
    for endpoint in ["a", "b", "c"] {
        let taken = machine.handle_update(at(2), endpoint, &second).unwrap();
        assert_eq!(taken, Taken::AlreadyKnown);
    }
    // The same content with other signatures is the same update.
    let again = draft(2, &[1, 2, 4]).signed(&[2, 3, 1]);
    assert_eq!(machine.handle_update(at(3), "b", &again).unwrap(), Taken::AlreadyKnown);
    assert!(actions(&mut machine).is_empty());
    let refused = refuse(&mut machine, &draft(1, &[1, 2, 5]).signed(&[1, 2]));
    let (found, newest) = (Version(1), Version(2));
    assert!(
        matches!(refused, Refused::OldVersion { found: f, newest: n } if (f, n) == (found, newest)),
        "{refused}"
    );
    assert!(!refused.is_for_now());
}

#[test]
fn conflicting_scheduled_updates_burn_their_version() {
    let mut machine = machine();
    let one = draft(5, &[1, 2, 4]).height(100).signed(&[1, 2]);
    let other = draft(5, &[1, 2, 5]).height(100).signed(&[1, 3]);
    machine.handle_update(at(1), "a", &one).unwrap();
    actions(&mut machine);
    let refused = machine.handle_update(at(2), "b", &other).unwrap_err();
    assert!(matches!(refused, Refused::Conflict { is_in_force: false, .. }), "{refused}");
    assert_eq!(actions(&mut machine), ["store burnt 5", "alert 5 in force false"]);
    // From now on neither of the two, and the alert is raised once.
    for update in [&one, &other, &one] {
        let refused = machine.handle_update(at(3), "b", update).unwrap_err();
        assert!(matches!(refused, Refused::Conflict { .. }), "{refused}");
    }
    machine.handle_height(at(4), 1000);
    assert!(actions(&mut machine).is_empty());
    assert_eq!(machine.in_force().version, Version(0));
    // The federation says which one it meant, under a higher version.
    let settled = draft(6, &[1, 2, 5]).signed(&[1, 2]);
    assert!(machine.handle_update(at(5), "a", &settled).is_ok());
}

#[test]
fn what_contradicts_the_federation_in_force_only_alerts() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[1, 2, 4]).signed(&[1, 2])).unwrap();
    actions(&mut machine);
    let other = draft(1, &[1, 2, 5]).signed(&[1, 2]);
    for expected in [vec!["alert 1 in force true".to_owned()], vec![]] {
        let refused = machine.handle_update(at(2), "b", &other).unwrap_err();
        assert!(matches!(refused, Refused::Conflict { is_in_force: true, .. }), "{refused}");
        assert_eq!(actions(&mut machine), expected);
    }
    assert_eq!(machine.in_force().federation, federation(2, &[1, 2, 4]));
}

#[test]
fn nobody_contradicts_without_signatures() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[1, 2, 4]).height(9).signed(&[1, 2])).unwrap();
    actions(&mut machine);
    let forged = draft(1, &[7, 8, 9]).height(9).signed(&[7, 8, 9]);
    let refused = refuse(&mut machine, &forged);
    assert!(matches!(refused, Refused::Signature { .. }), "{refused}");
    machine.handle_height(at(2), 9);
    assert_eq!(machine.in_force().version, Version(1));
}

#[test]
fn endpoints_that_contradict_each_other_burn_a_version_that_nobody_took() {
    let mut machine = machine();
    machine.handle_conflict(at(1), Version(3));
    assert_eq!(actions(&mut machine), ["store burnt 3", "alert 3 in force false"]);
    machine.handle_conflict(at(2), Version(3));
    assert!(actions(&mut machine).is_empty(), "once");
    let refused = refuse(&mut machine, &draft(3, &[1, 2, 4]).signed(&[1, 2]));
    assert!(matches!(refused, Refused::OldVersion { .. }), "{refused}");
}

#[test]
fn members_and_threshold_are_checked() {
    let mut machine = machine();
    let mut check = |update: FederationUpdate, part: &str| {
        let refused = refuse(&mut machine, &signed(update, &[1, 2, 3])).to_string();
        assert!(refused.contains(part), "{refused}");
    };
    check(draft(1, &[1, 2]).threshold(3).unsigned(), "threshold of 3 does not fit 2 members");
    let mut twice = draft(1, &[1, 2]).unsigned();
    twice.members[1].public_key = twice.members[0].public_key.clone();
    check(twice, "same key");
    let mut miscounted = draft(1, &[1, 2, 4]).unsigned();
    miscounted.config.as_mut().unwrap().member_count = 4;
    check(miscounted, "member_count is 4, but 3 members are active");
    let mut nobody = draft(1, &[1, 2]).unsigned();
    nobody.members.iter_mut().for_each(|member| member.active = false);
    nobody.config.as_mut().unwrap().member_count = 0;
    check(nobody, "1 to 20 members, not 0");
    let mut no_version = draft(1, &[1, 2]).unsigned();
    no_version.config.as_mut().unwrap().parameters.clear();
    check(no_version, "version");
    let mut unknown = draft(1, &[1, 2]).unsigned();
    unknown.update_type = 77;
    check(unknown, "77 is not a known federation update type");
    let mut unspecified = draft(1, &[1, 2]).unsigned();
    unspecified.update_type = 0;
    check(unspecified, "unspecified");
}

#[test]
fn nonsense_is_refused_whatever_it_is() {
    let seed = 0x5eed_u64;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut machine = machine();
    let honest = draft(1, &[1, 2, 4]).signed(&[1, 2]).encode_to_vec();
    let mut taken = 0;
    for round in 0..3000 {
        let mut bytes = honest.clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(0..bytes.len());
            bytes[place] = rng.u8(..);
        }
        bytes.truncate(rng.usize(0..=bytes.len()));
        let Ok(update) = FederationUpdate::decode(bytes.as_slice()) else { continue };
        let result = machine.handle_update(at(round), "evil", &Arc::new(update));
        taken += u64::from(result.is_ok());
        let federation = &machine.in_force().federation;
        assert!(
            *federation == root().federation || *federation == draft_federation(),
            "seed {seed:#x}, round {round}: nothing but the honest update is ever in force"
        );
    }
    assert!(taken < 100, "seed {seed:#x}: {taken}");
}

fn draft_federation() -> Federation {
    federation(2, &[1, 2, 4])
}

#[test]
fn a_flood_is_bounded_in_memory() {
    let mut machine = machine();
    // Signed ones wait, up to the bound.
    let mut members = vec![1, 2];
    for version in 1..=u64::try_from(SCHEDULED_MAX).unwrap() + 5 {
        let update = draft(version, &members).height(version * 10).signed(&[1, 2]);
        members = vec![1, 2];
        let result = machine.handle_update(at(version), "a", &update);
        let is_full = matches!(result, Err(Refused::ScheduleFull));
        assert_eq!(is_full, version > u64::try_from(SCHEDULED_MAX).unwrap(), "{version}");
        actions(&mut machine);
    }
    assert_eq!(machine.scheduled().count(), SCHEDULED_MAX);
    // Unsigned ones leave nothing but a count.
    for version in 1000..3000 {
        let refused = machine.handle_update(at(1), "evil", &draft(version, &[7, 8]).signed(&[7]));
        assert!(refused.is_err());
    }
    assert!(machine.peek_action().is_none());
    assert!(machine.known.len() <= KNOWN_VERSIONS_MAX);
    assert_eq!(machine.counts().refused["signature"], 2000);
}

#[test]
fn what_a_later_federation_signed_may_be_tried_again() {
    let mut machine = machine();
    let next = draft(1, &[4, 5]).signed(&[1, 2]);
    let after = draft(2, &[4, 6]).signed(&[4, 5]);
    let refused = refuse(&mut machine, &after);
    assert!(refused.is_for_now(), "{refused}");
    machine.handle_update(at(1), "a", &next).unwrap();
    assert!(machine.handle_update(at(2), "a", &after).is_ok());
    let forged = draft(3, &[9]).threshold(1).signed(&[4]);
    assert!(!machine.handle_update(at(3), "a", &forged).unwrap_err().is_for_now());
}
