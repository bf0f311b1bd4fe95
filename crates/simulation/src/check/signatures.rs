//! The checks of what is signed.

use std::collections::BTreeMap;

use crate::history::View;
use crate::journal::Actor;
use crate::plan::Content;
use crate::signing;

use super::Verdict;

/// Stages that are the last ones.
const ENDS: [&str; 3] = ["Complete", "Failed", "TimedOut"];

/// D2: a request that is settled has a transaction, with signatures of enough members for every input:
/// what does not verify is never used.
pub(crate) fn invariant_d2_signed_by_enough(view: View<'_>) -> Verdict {
    for offered in &view.own.offered {
        let is_complete = offered.end.as_deref() == Some("OUTCOME_STATE_COMPLETE");
        if offered.spec.content != Content::Signature || !is_complete {
            continue;
        }
        let Some(bytes) = view.own.signed.get(&offered.spec.number) else {
            return Err(format!("{} is complete, and there is no transaction", offered.name()));
        };
        signing::verify(offered.spec.number, bytes)
            .map_err(|why| format!("{} is complete, and {why}", offered.name()))?;
    }
    Ok(())
}

/// D2: the Bridge is told of one end of each request, and of no transaction that is not signed.
pub(crate) fn invariant_d2_bridge_hears_one_end(view: View<'_>) -> Verdict {
    let mut ends = BTreeMap::<u64, &str>::new();
    for entry in view.entries() {
        let told = entry.fact.told(Actor::Bridge);
        let Some(what) = told.and_then(|it| it.strip_prefix("signatures ")) else { continue };
        if what.ends_with(" wrongly") {
            return Err(format!("the Bridge was told at {:?}: signatures {what}", entry.at));
        }
        let Some((number, stage)) = what.split_once(' ') else { continue };
        let number = number.parse().unwrap_or(u64::MAX);
        // A former copy of the disk has not heard of the end, and a dead letter begins anew.
        let is_again = !view.own.restored.is_empty() || view.own.replayed.contains(&number);
        if !ENDS.contains(&stage) || is_again || !view.own.twins.is_empty() {
            continue;
        }
        let before = ends.insert(number, stage).unwrap_or(stage);
        if before != stage {
            return Err(format!("of request {number} the Bridge was told {before}, then {stage}"));
        }
    }
    Ok(())
}
