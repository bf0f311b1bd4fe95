//! What honest updates do.

use bitcoin::Network;

use super::*;

#[test]
fn an_update_at_once_is_stored_then_in_force_then_told() {
    let mut machine = machine();
    let taken = machine.handle_update(at(5), "a", &draft(1, &[1, 2, 4]).signed(&[1, 3])).unwrap();
    assert_eq!(taken, Taken::InForce { version: Version(1) });
    assert_eq!(
        actions(&mut machine),
        ["store accepted", "store in force 1 at 0", "tell in force 1"]
    );
    assert_eq!(machine.in_force().federation, federation(2, &[1, 2, 4]));
    assert_eq!(machine.newest(), Version(1));
}

#[test]
fn an_update_waits_for_its_height() {
    let mut machine = machine();
    let update = draft(1, &[1, 2, 4]).height(100).signed(&[1, 2]);
    let taken = machine.handle_update(at(5), "a", &update).unwrap();
    assert_eq!(taken, Taken::Scheduled { version: Version(1), effective_height: 100 });
    assert_eq!(actions(&mut machine), ["store accepted", "tell scheduled 1 at 100"]);
    for height in [1, 99, 50] {
        machine.handle_height(at(6), height);
        assert!(actions(&mut machine).is_empty(), "A12");
    }
    machine.handle_height(at(7), 100);
    assert_eq!(actions(&mut machine), ["store in force 1 at 100", "tell in force 1"]);
    // A reorganisation takes nothing back.
    machine.handle_height(at(8), 90);
    assert_eq!(machine.in_force().version, Version(1));
    // A height that was reached before is at once.
    let update = draft(2, &[1, 2, 4]).height(95).signed(&[2, 4]);
    let taken = machine.handle_update(at(9), "a", &update).unwrap();
    assert_eq!(taken, Taken::InForce { version: Version(2) });
}

#[test]
fn each_link_is_signed_by_what_it_replaces() {
    let mut machine = machine();
    let first = draft(1, &[4, 5, 6]).height(100).signed(&[1, 2]);
    machine.handle_update(at(1), "a", &first).unwrap();
    // At height 200 the members of version 1 will be in force: theirs are the signatures it takes.
    let by_old = draft(2, &[4, 5, 7]).height(200).signed(&[1, 2, 3]);
    let refused = machine.handle_update(at(2), "a", &by_old).unwrap_err();
    assert!(matches!(refused, Refused::Signature { predecessor: Version(1), .. }), "{refused}");
    let by_next = draft(2, &[4, 5, 7]).height(200).signed(&[4, 6]);
    machine.handle_update(at(3), "a", &by_next).unwrap();
    actions(&mut machine);
    machine.handle_height(at(4), 500);
    let expected = [
        "store in force 1 at 500",
        "tell in force 1",
        "store in force 2 at 500",
        "tell in force 2",
    ];
    assert_eq!(actions(&mut machine), expected);
}

#[test]
fn what_takes_effect_no_later_supersedes() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[4, 5]).height(100).signed(&[1, 2])).unwrap();
    machine.handle_update(at(2), "a", &draft(2, &[4, 6]).height(200).signed(&[4, 5])).unwrap();
    // Replaces version 2, not version 1.
    let update = draft(3, &[4, 7]).height(150).signed(&[4, 5]);
    machine.handle_update(at(3), "a", &update).unwrap();
    let waiting = |machine: &Federations| {
        machine.scheduled().map(|it| (it.version.0, it.effective_height)).collect::<Vec<_>>()
    };
    assert_eq!(waiting(&machine), [(1, 100), (3, 150)]);
    // At once replaces all of them, so the federation in force has to sign it.
    machine.handle_update(at(4), "a", &draft(4, &[1, 8]).signed(&[1, 2])).unwrap();
    assert!(waiting(&machine).is_empty());
    assert_eq!(machine.in_force().version, Version(4));
}

#[test]
fn a_change_of_the_threshold_alone_keeps_the_members() {
    let mut machine = machine();
    machine.handle_update(at(1), "a", &draft(1, &[]).threshold(3).signed(&[1, 2])).unwrap();
    assert_eq!(machine.in_force().federation, federation(3, &[1, 2, 3]));
}

#[test]
fn open_requests_keep_the_federation_they_were_created_under() {
    let mut machine = machine();
    for version in 1..=3 {
        let update = draft(version, &[1, 2, 3]).threshold(2).signed(&[1, 2]);
        machine.handle_update(at(version * 10), "a", &update).unwrap();
    }
    let under = |seq| machine.under(Seq(seq)).map(|it| it.version.0);
    assert_eq!([1, 9, 10, 19, 20, 29, 30, 99].map(under), [0, 0, 1, 1, 2, 2, 3, 3].map(Some));
    assert_eq!(under(0), None, "before everything that is known");
}

#[test]
fn recent_federations_and_known_versions_are_bounded() {
    let mut machine = machine();
    let versions = u64::try_from(KNOWN_VERSIONS_MAX.max(RECENT_MAX)).unwrap() + 20;
    for version in 1..=versions {
        let update = draft(version, &[1, 2, 3]).signed(&[1, 2]);
        machine.handle_update(at(version * 10), "a", &update).unwrap();
        actions(&mut machine);
    }
    assert_eq!((machine.recent.len(), machine.known.len()), (RECENT_MAX, KNOWN_VERSIONS_MAX));
    assert_eq!(machine.under(Seq(15)), None, "too long ago");
    // Forgotten, and still old.
    let old = draft(1, &[1, 2, 3]).signed(&[1, 2]);
    let refused = machine.handle_update(at(5), "a", &old).unwrap_err();
    assert!(matches!(refused, Refused::OldVersion { .. }), "A11");
}

#[test]
fn addresses_of_both_kinds_follow_from_the_members() {
    let in_force = InForce { version: Version(0), ..InForce::clone(machine().in_force()) };
    let addresses = in_force.addresses(Network::Regtest).unwrap();
    assert_eq!(addresses.p2wsh, in_force.federation.address(Network::Regtest));
    assert!(addresses.p2wsh.to_string().starts_with("bcrt1q"), "{}", addresses.p2wsh);
    assert!(addresses.p2tr.to_string().starts_with("bcrt1p"), "{}", addresses.p2tr);
    let other = Addresses::of(&federation(2, &[1, 2, 4]), Network::Regtest).unwrap();
    assert_ne!((other.p2wsh, other.p2tr), (addresses.p2wsh, addresses.p2tr));
}

#[test]
fn a_type_does_what_it_says() {
    use FederationUpdateType::{MemberAdd, MemberRemove};
    let check = |draft: Draft, expected: Option<&str>| {
        let refused = machine().handle_update(at(1), "a", &draft.signed(&[1, 2])).err();
        assert_eq!(refused.map(|it| it.to_string()).as_deref(), expected);
    };
    check(draft(1, &[1, 2, 3, 4]).kind(MemberAdd), None);
    check(draft(1, &[2, 3]).kind(MemberRemove), None);
    let text = "a MEMBER_ADD must not remove member member-3: use CONFIG_CHANGE";
    check(draft(1, &[1, 2, 4]).kind(MemberAdd), Some(text));
    let text = "a MEMBER_REMOVE must not add member member-4: use CONFIG_CHANGE";
    check(draft(1, &[1, 4]).kind(MemberRemove), Some(text));
}
