//! The history: bytes, and what a restart makes of it.

use alys_stream_messaging::storage::FileStorage;

use super::*;

fn root_entry(root: Root) -> Entry {
    let Root { version, federation } = root;
    Entry::Root(RootEntry { version, federation, at: UnixMillis(1), first_seq: Seq(1) })
}

/// A life with everything in it, and its history.
fn lived() -> (Federations, Vec<Entry>) {
    let mut machine = machine();
    let mut entries = vec![root_entry(root())];
    let mut handle = |machine: &mut Federations, millis, update: Arc<FederationUpdate>| {
        machine.handle_update(at(millis), "a", &update).unwrap();
        entries.extend(stored(machine));
    };
    handle(&mut machine, 10, draft(1, &[1, 2, 4]).signed(&[1, 2]));
    handle(&mut machine, 20, draft(2, &[4, 5]).height(100).signed(&[1, 4]));
    handle(&mut machine, 30, halt(1).signed(&[2, 4]));
    handle(&mut machine, 40, draft(3, &[4, 6]).height(200).signed(&[4, 5]));
    machine.handle_height(at(50), 120);
    entries.extend(stored(&mut machine));
    machine.handle_conflict(at(60), Version(9));
    entries.extend(stored(&mut machine));
    (machine, entries)
}

fn restore(entries: &[Entry]) -> Result<Option<Federations>, RestoreError> {
    Federations::restore(entries.to_vec())
}

#[test]
fn a_restart_knows_all_that_was_known() {
    let (before, entries) = lived();
    let after = restore(&entries).unwrap().unwrap();
    assert_eq!(after.in_force(), before.in_force());
    assert_eq!((after.newest(), before.newest()), (Version(9), Version(9)), "A11");
    assert_eq!(after.halted(), before.halted());
    let waiting = |machine: &Federations| machine.scheduled().cloned().collect::<Vec<_>>();
    // Version 3 was chained to what the conflict about version 9 did not touch.
    assert_eq!(waiting(&after), waiting(&before));
    for seq in [5, 10, 49, 50, 70] {
        assert_eq!(after.under(Seq(seq)), before.under(Seq(seq)), "{seq}");
    }
    let mut after = after;
    after.handle_started(at(100));
    let expected = ["tell halt", "tell in force 2", "tell scheduled 3 at 200"];
    assert_eq!(actions(&mut after), expected, "everybody is told how things are");
    let old = draft(1, &[1, 2, 4]).signed(&[1, 2]);
    assert_eq!(after.handle_update(at(101), "a", &old).unwrap(), Taken::AlreadyKnown);
    let replayed = halt(1).signed(&[2, 4]);
    assert!(after.handle_update(at(102), "a", &replayed).is_err() || after.halted().is_some());
}

#[test]
fn a_crash_anywhere_in_between_loses_nothing_but_what_was_not_durable() {
    let (_, entries) = lived();
    for kept in 1..=entries.len() {
        let mut machine = restore(&entries[..kept]).unwrap().unwrap();
        machine.handle_started(at(100));
        let in_force = machine.in_force().version;
        assert!(in_force <= Version(2), "after {kept} entries: {in_force}");
        let accepted = entries[..kept].iter().any(|entry| matches!(entry, Entry::Accepted(_)));
        assert_eq!(in_force >= Version(1), accepted, "what was at once is in force now");
    }
}

#[test]
fn a_chain_with_a_forged_missing_or_misplaced_link_is_not_followed() {
    let (_, entries) = lived();
    let check = |change: fn(&mut Vec<Entry>), part: &str| {
        let mut changed = entries.clone();
        change(&mut changed);
        let error = restore(&changed).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(|it| drop(it.remove(0)), "no beginning");
    check(|it| drop(it.remove(1)), "entry 1 of the federation history puts version 1");
    check(|it| drop(it.drain(1..3)), "entry 1 of the federation history does not follow");
    check(
        |it| {
            let update = draft(1, &[7, 8, 9]).signed(&[7, 8]);
            it[1] = Entry::Accepted(AcceptedEntry {
                at: UnixMillis(10),
                endpoint: "evil".into(),
                update,
            });
        },
        "did not sign it",
    );
    check(
        |it| {
            let (version, first_seq) = (Version(8), Seq(1));
            let entry = InForceEntry { version, height: 0, at: UnixMillis(1), first_seq };
            it.push(Entry::InForce(entry));
        },
        "version 8 in force out of turn",
    );
}

#[test]
fn the_configured_federation_begins_takes_over_or_contradicts() {
    let (_, entries) = lived();
    let reconcile = |entries: &[Entry], configured: Option<Root>| {
        let restored = restore(entries).unwrap();
        let machine = Federations::reconcile(restored, configured, at(500))?;
        // What is to be stored first.
        Ok::<_, RestoreError>(machine.map(|machine| {
            let store = match machine.peek_action() {
                Some(Action::Store(entry)) => Some(Entry::clone(entry)),
                _ => None,
            };
            (machine, store)
        }))
    };
    assert!(reconcile(&[], None).unwrap().is_none());
    let (machine, store) = reconcile(&[], Some(root())).unwrap().unwrap();
    assert!(matches!(store, Some(Entry::Root(_))));
    assert_eq!(machine.in_force().version, Version(0));
    // The newer one of the two is in force.
    let (machine, store) = reconcile(&entries, Some(root())).unwrap().unwrap();
    assert_eq!((machine.in_force().version, store), (Version(2), None));
    let newer = Root { version: Version(20), federation: federation(1, &[8]) };
    let (machine, store) = reconcile(&entries, Some(newer.clone())).unwrap().unwrap();
    assert_eq!(machine.in_force().federation, newer.federation);
    assert!(machine.halted().is_some(), "a halt outlives the change");
    assert_eq!(machine.under(Seq(50)).map(|it| it.version), Some(Version(2)));
    // The next start finds the same.
    let mut longer = entries.clone();
    longer.extend(store);
    let (again, store) = reconcile(&longer, Some(newer)).unwrap().unwrap();
    assert_eq!((again.in_force().version, store), (Version(20), None));
    let other = Root { version: Version(1), federation: federation(1, &[8]) };
    let error = reconcile(&entries, Some(other)).map(drop).unwrap_err();
    assert!(matches!(error, RestoreError::OtherRoot { .. }), "{error}");
}

#[test]
fn entries_have_golden_bytes_and_survive_them() {
    let (_, entries) = lived();
    for entry in &entries {
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(entry));
    }
    let in_force = Entry::InForce(InForceEntry {
        version: Version(2),
        height: 258,
        at: UnixMillis(3),
        first_seq: Seq(4),
    });
    let mut golden = vec![1, 3];
    for number in [2_u64, 258, 3, 4] {
        golden.extend(number.to_le_bytes());
    }
    assert_eq!(in_force.encode(), golden);
    let burnt = Entry::Burnt { version: Version(7), at: UnixMillis(1) };
    assert_eq!(burnt.encode()[..], [1, 4, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let root = entries[0].encode();
    assert_eq!(root[..2], [1, 1]);
    assert_eq!(root.len(), 2 + 24 + 1 + 4 + 4 + 3 * (4 + 8 + 33 + 4));
}

#[test]
fn bytes_that_are_no_entry_are_refused() {
    let (_, entries) = lived();
    for entry in &entries {
        let bytes = entry.encode();
        for end in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..end]).is_err());
        }
        assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
    assert_eq!(Entry::decode(&[2, 1]), Err(InvalidEntry::Format(2)));
    assert_eq!(Entry::decode(&[1, 9]), Err(InvalidEntry::Kind(9)));
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes = entries[rng.usize(0..entries.len())].encode().to_vec();
        let place = rng.usize(0..bytes.len());
        bytes[place] ^= 1 << rng.u8(0..8);
        // No panic, whatever it says.
        drop(Entry::decode(&bytes));
    }
}

#[tokio::test]
async fn the_history_on_disk_gives_everything_back() {
    let dir = tempfile::tempdir().unwrap();
    let open = || FederationHistory::open(dir.path(), Arc::new(FileStorage)).unwrap();
    let (_, entries) = lived();
    let (history, none) = open();
    assert!(none.is_empty());
    for entry in &entries[..4] {
        history.append(entry).await.unwrap();
    }
    history.close().await;
    drop(history);
    let (history, some) = open();
    assert_eq!(some, entries[..4]);
    for entry in &entries[4..] {
        history.append(entry).await.unwrap();
    }
    assert_eq!(history.entries(), u64::try_from(entries.len()).unwrap());
    history.close().await;
    drop(history);
    let (history, all) = open();
    assert_eq!(all, entries);
    history.close().await;
}
