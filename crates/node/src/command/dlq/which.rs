//! Which dead letters are meant: by their numbers, by what is known of them, or all.

use std::time::Duration;

use alys_stream_protocol::message::MessageKind;
use alys_stream_protocol::submission::{
    DeadLetter, DeadLetterFilter, ListDeadLettersRequest, LookPurpose,
};
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use clap::ValueEnum;

use super::source::Source;
use crate::failure::Failure;
use crate::{moment, output};

/// By what is known of them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which dead letters; all that is given must hold")]
pub(super) struct Filter {
    /// Why it died
    #[arg(long, value_enum)]
    cause: Option<Cause>,
    /// What it is: the name of a kind, such as `application`, or its number
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<String>,
    /// An endpoint that refused it
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Died longer ago than this, such as 30m, 2h or 7d
    #[arg(long, value_name = "SPAN", value_parser = moment::span)]
    older_than: Option<Duration>,
    /// Died not longer ago than this
    #[arg(long, value_name = "SPAN", value_parser = moment::span)]
    newer_than: Option<Duration>,
    /// The first so many of those, oldest first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Cause {
    /// Its deadline passed before it was sent
    Expired,
    /// Its deadline passed after it was sent
    #[value(alias = "timed-out")]
    TimedOut,
    /// A peer refused it for good
    Refused,
    /// It made room for others in a full buffer
    Evicted,
}

/// By number, by what is known of them, or all.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Which {
    /// Their numbers in the list
    #[arg(value_name = "ID", conflicts_with_all = ["Filter", "all"])]
    ids: Vec<u64>,
    /// Every one of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

fn kind(text: &str) -> Result<String, String> {
    if MessageKind::words().any(|word| word == text) || text.parse::<u32>().is_ok() {
        return Ok(text.to_owned());
    }
    let words: Vec<_> = MessageKind::words().collect();
    Err(format!("a kind is {} or a number", words.join(", ")))
}

impl Filter {
    fn is_empty(&self) -> bool {
        let Self { cause, kind, endpoint, older_than, newer_than, limit } = self;
        cause.is_none()
            && kind.is_none()
            && endpoint.is_none()
            && older_than.is_none()
            && newer_than.is_none()
            && limit.is_none()
    }

    fn to_wire(&self, now: UnixMillis) -> DeadLetterFilter {
        let ago = |span: Option<Duration>| {
            let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let at = span.map(|span| UnixMillis(now.0.saturating_sub(millis(span)).max(1)));
            UnixMillis::to_wire(at)
        };
        let cause = self.cause.map_or("", |cause| match cause {
            Cause::Expired => "expired",
            Cause::TimedOut => "timed_out",
            Cause::Refused => "refused",
            Cause::Evicted => "evicted",
        });
        DeadLetterFilter {
            cause: cause.to_owned(),
            kind: self.kind.clone().unwrap_or_default(),
            endpoint: self.endpoint.clone().unwrap_or_default(),
            died_before_ms: ago(self.older_than),
            died_after_ms: ago(self.newer_than),
        }
    }
}

impl Which {
    /// Those that a filter names; all when it is empty.
    pub(super) fn of(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// A single one.
    pub(super) fn one(id: u64) -> Self {
        Self { ids: vec![id], ..Self::default() }
    }

    /// Whether it was said on purpose which ones.
    ///
    /// # Errors
    ///
    /// When nothing was said.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.ids.is_empty() && !self.all && self.filter.is_empty() {
            return Err(Failure::usage(
                "which dead letters? (name their numbers, a filter such as --cause, or --all)",
            ));
        }
        Ok(())
    }

    /// Goes through them, page by page.
    pub(super) fn letters(&self, purpose: LookPurpose) -> Letters {
        Letters {
            filter: self.filter.to_wire(SystemClock.now()),
            ids: (!self.ids.is_empty()).then(|| self.ids.clone()),
            left: self.filter.limit.unwrap_or(u64::MAX),
            after: Some(0),
            purpose,
            unreadable: Vec::new(),
        }
    }

    /// How many were named by number.
    pub(super) fn named(&self) -> u64 {
        u64::try_from(self.ids.len()).unwrap_or(u64::MAX)
    }

    /// The numbers of all of them. Those that cannot be read back are among them with `--all` alone,
    /// since nobody knows whether a filter holds of one, and only to be removed: that takes no more
    /// than the number.
    ///
    /// # Errors
    ///
    /// As [`Letters::next`].
    pub(super) async fn ids(
        &self,
        source: &mut Source,
        is_for_removal: bool,
    ) -> Result<Vec<u64>, Failure> {
        // Those that were named and are not there are told of by whoever is given their numbers.
        if !self.ids.is_empty() {
            return Ok(self.ids.clone());
        }
        let mut ids = Vec::new();
        let mut letters = self.letters(LookPurpose::Choose);
        while let Some(page) = letters.next(source).await? {
            ids.extend(page.iter().map(|letter| letter.id));
        }
        if is_for_removal && self.all && self.filter.is_empty() {
            ids.append(&mut letters.unreadable);
        }
        Ok(ids)
    }
}

/// The pages of those that are meant.
#[derive(Debug)]
pub(super) struct Letters {
    filter: DeadLetterFilter,
    ids: Option<Vec<u64>>,
    left: u64,
    after: Option<u64>,
    purpose: LookPurpose,
    /// Those so far that cannot be read back any more.
    unreadable: Vec<u64>,
}

impl Letters {
    /// The next page, which may be empty; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or the directory cannot be read.
    pub(super) async fn next(
        &mut self,
        source: &mut Source,
    ) -> Result<Option<Vec<DeadLetter>>, Failure> {
        if let Some(ids) = &mut self.ids {
            let Some(id) = ids.first().copied() else {
                return Ok(None);
            };
            ids.remove(0);
            return self.single(source, id).await.map(Some);
        }
        let (Some(after_id), 1..) = (self.after, self.left) else {
            return Ok(None);
        };
        let request = ListDeadLettersRequest {
            filter: Some(self.filter.clone()),
            after_id,
            count_max: u32::try_from(self.left).unwrap_or(0),
            with_payloads: self.with_payloads(),
            purpose: self.purpose.into(),
        };
        let mut page = source.page(request).await?;
        self.unreadable.append(&mut page.unreadable_ids);
        if page.unreadable > 0 {
            output::note(format_args!(
                "warning: {} dead letters cannot be read back any more",
                page.unreadable
            ));
        }
        self.left -= u64::try_from(page.letters.len()).unwrap_or(self.left).min(self.left);
        self.after = (page.next_after_id > 0).then_some(page.next_after_id);
        Ok(Some(page.letters))
    }

    /// Lists do without: payloads may be large.
    fn with_payloads(&self) -> bool {
        match self.purpose {
            LookPurpose::Show | LookPurpose::Export => true,
            LookPurpose::Unspecified | LookPurpose::Choose => false,
        }
    }

    async fn single(&self, source: &mut Source, id: u64) -> Result<Vec<DeadLetter>, Failure> {
        let request = ListDeadLettersRequest {
            filter: None,
            after_id: id.saturating_sub(1),
            count_max: 1,
            with_payloads: self.with_payloads(),
            purpose: self.purpose.into(),
        };
        let mut letters = source.page(request).await?.letters;
        letters.retain(|letter| letter.id == id);
        Ok(letters)
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_actor::letters::LetterFilter;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        which: Which,
    }

    /// Words of a command line, and some that are none.
    const WORDS: [&str; 22] = [
        "--cause",
        "refused",
        "timed-out",
        "--kind",
        "application",
        "1007",
        "4294967296",
        "--endpoint",
        "gov-1",
        "--older-than",
        "--newer-than",
        "30m",
        "7d",
        "0s",
        "-1s",
        "18446744073709551615ms",
        "9999999999999d",
        "--limit",
        "0",
        "17",
        "--all",
        "\u{e4}\n",
    ];

    #[test]
    fn whatever_is_typed_is_refused_or_a_filter_that_the_node_takes() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut taken = 0;
        for _ in 0..4000 {
            let words = (0..rng.usize(0..8)).map(|_| WORDS[rng.usize(..WORDS.len())]);
            let Ok(line) = Line::try_parse_from(std::iter::once("dlq").chain(words)) else {
                continue;
            };
            let wire = line.which.filter.to_wire(UnixMillis(1_000_000));
            let filter = LetterFilter::try_from(wire).expect("the node takes what this makes");
            let (older, newer) = (&line.which.filter.older_than, &line.which.filter.newer_than);
            assert_eq!(filter.died_before.is_some(), older.is_some(), "{filter:?}");
            assert_eq!(filter.died_after.is_some(), newer.is_some(), "{filter:?}");
            taken += 1;
        }
        assert!(taken > 400, "{taken}");
    }

    #[test]
    fn every_kind_that_a_dead_letter_is_shown_with_can_be_asked_for() {
        for number in 0..1100 {
            let word = MessageKind(number).as_str();
            for text in [word, &number.to_string()] {
                let line = Line::try_parse_from(["dlq", "--kind", text]).expect("a kind");
                assert_eq!(line.which.filter.kind.as_deref(), Some(text));
            }
        }
        for none in ["", "federation", "Application", "-1", "4294967296"] {
            let line = Line::try_parse_from(["dlq".to_owned(), format!("--kind={none}")]);
            let refusal = line.err().expect("no kind").to_string();
            // What is named is what is taken.
            assert!(refusal.contains("federation_update, proposal_notification,"), "{refusal}");
        }
    }
}
