//! `alys-stream dlq replay`: has the messages of dead letters accepted again.

use alys_stream_protocol::submission::{ReplayResult, ReplayedLetter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::source::Source;
use super::which::Which;
use crate::failure::Failure;
use crate::output;

/// From so many on a bar shows how far it is, and nothing is said of each.
pub(super) const LONG: usize = 256;

/// What became of them.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    already_accepted: u64,
    missing: u64,
    refused: u64,
}

/// Replays and reports.
///
/// # Errors
///
/// When the node does not answer, a store fails, or some were not accepted.
pub(super) async fn run(source: &mut Source, which: &Which, as_json: bool) -> Result<(), Failure> {
    let ids = which.ids(source, false).await?;
    if ids.is_empty() {
        return super::nothing_done("replayed", as_json);
    }
    let bar = bar(ids.len());
    let mut tally = Tally::default();
    let done = source
        .replay(&ids, &mut |replayed| {
            bar.inc(u64::try_from(replayed.len()).unwrap_or(0));
            for one in replayed {
                tally.add(one.result());
                if as_json {
                    output::line(shown(&one))?;
                } else if one.result() == ReplayResult::Refused {
                    bar.suspend(|| output::note(format_args!("{}: {}", one.id, one.reason)));
                }
            }
            Ok(())
        })
        .await;
    bar.finish_and_clear();
    if !as_json {
        output::line(tally.words())?;
    }
    done?;
    let left = tally.missing + tally.refused;
    if left > 0 {
        return Err(Failure::other(format_args!("{left} of {} were not replayed", ids.len())));
    }
    Ok(())
}

/// On standard error, and only where a person is watching.
fn bar(count: usize) -> ProgressBar {
    if count < LONG {
        return ProgressBar::hidden();
    }
    let length = u64::try_from(count).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} replayed, {eta} left");
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn shown(one: &ReplayedLetter) -> serde_json::Value {
    let mut value = json!({ "id": one.id, "result": word(one.result()) });
    if one.seq > 0 {
        value["seq"] = one.seq.into();
    }
    if !one.reason.is_empty() {
        value["reason"] = one.reason.as_str().into();
    }
    value
}

const fn word(result: ReplayResult) -> &'static str {
    match result {
        ReplayResult::Accepted => "accepted",
        ReplayResult::AlreadyAccepted => "already_accepted",
        ReplayResult::Missing => "missing",
        ReplayResult::Refused => "refused",
        ReplayResult::Unspecified => "unknown",
    }
}

impl Tally {
    const fn add(&mut self, result: ReplayResult) {
        match result {
            ReplayResult::Accepted => self.accepted += 1,
            ReplayResult::AlreadyAccepted => self.already_accepted += 1,
            ReplayResult::Missing => self.missing += 1,
            ReplayResult::Refused | ReplayResult::Unspecified => self.refused += 1,
        }
    }

    fn words(&self) -> String {
        let mut words = format!("replayed {}", self.accepted);
        for (count, what) in [
            (self.already_accepted, "had been accepted again before"),
            (self.missing, "not there"),
            (self.refused, "refused"),
        ] {
            if count > 0 {
                words.push_str(&format!(", {count} {what}"));
            }
        }
        words
    }
}
