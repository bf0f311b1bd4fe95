//! What the governance nodes wrote down, read after they are gone.

use alys_stream_governance::read_ledger;

use super::accounts::Ledger;
use crate::failure::Failure;
use crate::mint::MintedGovernance;

/// How often each governance node applied each message.
///
/// # Errors
///
/// When a ledger cannot be read: then nothing can be said about it.
pub(crate) fn read_all(governance: &[MintedGovernance]) -> Result<Vec<Ledger>, Failure> {
    let read = |node: &MintedGovernance| {
        let counts = read_ledger(&node.data_dir).map_err(|error| {
            Failure::other(format_args!("cannot count what {} applied: {error}", node.id))
        })?;
        let mut ledger = Ledger::new();
        for (id, times) in counts {
            *ledger.entry(id).or_default() += times;
        }
        Ok(ledger)
    };
    governance.iter().map(read).collect()
}
