//! `hot_path PIECE STEPS`: for whoever counts instructions. Without arguments it lists the pieces,
//! each with the messages of one step.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use alys_stream_benches::hot_path;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(piece) = args.next() else {
        let mut out = stdout().lock();
        let listed = hot_path::PIECES
            .iter()
            .try_for_each(|(name, messages)| writeln!(out, "{name} {messages}"));
        return if listed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let steps = args.next().and_then(|steps| steps.parse().ok()).unwrap_or(1);
    if hot_path::run(&piece, steps) { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
