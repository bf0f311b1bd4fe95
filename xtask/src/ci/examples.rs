//! The examples of the umbrella crate run, and show something.

use anyhow::{Context as _, ensure};

use crate::process::Run;

/// The commands, as text.
pub(super) const SHOWN: &str = "target/debug/examples/{embed,own_bridge,read_buffer,decode}";

/// What each one prints, among other things, when it did its job.
const EXAMPLES: &[(&str, &str)] = &[
    ("embed", "OUTCOME_STATE_COMPLETE (1 of 1 inputs signed)"),
    ("own_bridge", "is signed: 1 inputs, ready to broadcast"),
    ("read_buffer", "3 records in 1 segments, 2 unsettled, sound"),
    ("decode", "are refused: pegin_notification.btc_txid"),
];

/// Runs them all.
pub(super) fn run() -> anyhow::Result<()> {
    for (name, shows) in EXAMPLES {
        let program = format!("target/debug/examples/{name}");
        // The tests built it, with the features of the whole workspace.
        if !std::path::Path::new(&program).exists() {
            Run::cargo(&["build", "--locked", "-p", "alys-stream", "--examples"]).run()?;
        }
        let output =
            Run::new(&*program, &[]).stdout().with_context(|| format!("example {name}"))?;
        ensure!(output.contains(shows), "example {name} does not say {shows:?}: {output}");
    }
    Ok(())
}
