//! The checks of disks that fail or are full (D11).

use std::collections::BTreeSet;

use crate::history::History;
use crate::journal::Fact;

use super::Verdict;

/// D11: a file whose sync failed is not used any more, and nobody takes for stored what such a sync
/// dropped; and no machine stays down.
pub(crate) fn invariant_d11_failed_syncs_are_final(history: &History) -> Verdict {
    let misused = history.entries.iter().find_map(|entry| {
        let Fact::Misused { what, how } = &entry.fact else { return None };
        Some(format!("{what} of {} is {how} at {:?}", entry.who.name(), entry.at))
    });
    let down = || {
        let machine = history.down.first()?;
        Some(format!("{} does not start any more", machine.name()))
    };
    misused.or_else(down).map_or(Ok(()), Err)
}

/// D11: a machine gives up for no other reason than that syncs failed: a full disk is none.
pub(crate) fn invariant_d11_a_full_disk_is_no_exit(history: &History) -> Verdict {
    let mut failed = BTreeSet::new();
    for entry in &history.entries {
        let who = entry.who;
        if let Fact::Started { .. } = &entry.fact {
            failed.remove(&who);
        }
        if let Fact::SyncFailed { .. } = &entry.fact {
            failed.insert(who);
        }
        if let Fact::GaveUp { why } = &entry.fact
            && !failed.contains(&who)
        {
            let (who, at) = (who.name(), entry.at);
            return Err(format!("{who} gave up at {at:?}, and no sync had failed: {why}"));
        }
    }
    Ok(())
}
