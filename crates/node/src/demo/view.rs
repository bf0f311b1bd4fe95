//! What a person sees while the demo runs: a live view on a terminal, lines elsewhere, nothing when
//! a program reads the result.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::accounts::Counts;
use super::timeline::Fault;
use super::watch::Sight;
use super::workload::Event;
use crate::failure::Failure;
use crate::output;

/// How often a line is printed when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// One moment of a run.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Duration,
    pub(crate) run: Duration,
    pub(crate) counts: Counts,
    pub(crate) in_flight: u64,
    pub(crate) sight: &'a Sight,
}

/// Where it is shown.
#[derive(Debug)]
pub(crate) enum View {
    /// Standard output is for a program.
    Silent,
    /// A line now and then.
    Lines { next: Duration },
    /// Lines that change in place.
    Live(Box<Live>),
}

/// The parts of the live view.
#[derive(Debug)]
pub(crate) struct Live {
    all: MultiProgress,
    time: ProgressBar,
    counts: ProgressBar,
    endpoints: Vec<ProgressBar>,
}

impl View {
    pub(crate) fn new(as_json: bool, endpoints: usize) -> Self {
        if as_json {
            Self::Silent
        } else if output::is_terminal() {
            Self::Live(Box::new(Live::new(endpoints)))
        } else {
            Self::Lines { next: Duration::ZERO }
        }
    }

    /// Says one thing.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub(crate) fn say(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Silent => Ok(()),
            Self::Lines { .. } => output::line(text),
            Self::Live(live) => live.all.println(text).map_err(|error| {
                Failure::other(format_args!("cannot draw on the terminal: {error}"))
            }),
        }
    }

    /// Tells what happened.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub(crate) fn event(&self, event: &Event) -> Result<(), Failure> {
        let (at, text) = match event {
            Event::Caused { kind, at, who, in_flight } => (*at, caused(*kind, who, *in_flight)),
            Event::Over(fault) => {
                let took = fault.recovered.unwrap_or_default();
                (fault.at + took, over(fault.kind, took))
            }
        };
        self.say(&format!("{:6.1} s  {text}", at.as_secs_f64()))
    }

    /// Shows how things are.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub(crate) fn show(&mut self, moment: &Moment<'_>) -> Result<(), Failure> {
        match self {
            Self::Silent => Ok(()),
            Self::Lines { next } if moment.now < *next => Ok(()),
            Self::Lines { next } => {
                *next = moment.now + LINE_EVERY;
                let states: Vec<&str> = moment.sight.states().map(|(_, state)| state).collect();
                let states =
                    if moment.sight.answers { states.join(" ") } else { "node away".to_owned() };
                output::line(format_args!(
                    "{:6.1} s  {}  [{states}]",
                    moment.now.as_secs_f64(),
                    counts(moment)
                ))
            }
            Self::Live(live) => {
                live.show(moment);
                Ok(())
            }
        }
    }

    /// Leaves the terminal to what comes after.
    pub(crate) fn finish(&self) {
        if let Self::Live(live) = self {
            live.finish();
        }
    }
}

impl Live {
    fn new(endpoints: usize) -> Self {
        let all = MultiProgress::new();
        let plain = || {
            let bar = all.add(ProgressBar::new(1));
            bar.set_style(style("  {msg}"));
            bar
        };
        let time = all.add(ProgressBar::new(1));
        time.set_style(style("  {bar:40} {msg}"));
        let counts = plain();
        let endpoints = (0..endpoints).map(|_| plain()).collect();
        Self { all, time, counts, endpoints }
    }

    fn show(&self, moment: &Moment<'_>) {
        let Moment { now, run, sight, .. } = moment;
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.time.set_length(millis(run));
        self.time.set_position(millis(now).min(millis(run)));
        self.time.set_message(format!("{:.1} of {} s", now.as_secs_f64(), run.as_secs()));
        self.counts.set_message(counts(moment));
        for (bar, (name, state)) in self.endpoints.iter().zip(sight.states()) {
            let state = if sight.answers { state } else { "node away" };
            bar.set_message(format!("{name:<14} {state}"));
        }
    }

    fn finish(&self) {
        self.time.finish();
        self.counts.finish();
        self.endpoints.iter().for_each(ProgressBar::finish);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn counts(moment: &Moment<'_>) -> String {
    let Counts { accepted, settled, signed, dead, .. } = moment.counts;
    let seconds = moment.now.min(moment.run).as_secs().max(1);
    format!(
        "accepted {accepted}  settled {settled}  signed {signed}  dead {dead}  in flight {}  {}/s",
        moment.in_flight,
        accepted / seconds
    )
}

fn caused(kind: Fault, who: &str, in_flight: u64) -> String {
    match kind {
        Fault::GovernanceKilled => format!("kill -9 {who}: the others must go on"),
        Fault::GovernanceRestarted => format!("start {who} again: it must catch up"),
        Fault::NodeRestarted => {
            format!("kill -9 {who} with {in_flight} in flight, and start it from its buffer")
        }
    }
}

fn over(kind: Fault, took: Duration) -> String {
    let took = took.as_millis();
    match kind {
        Fault::GovernanceKilled => format!("signatures go on ({took} ms after the kill)"),
        Fault::GovernanceRestarted => format!("connected again ({took} ms after the start)"),
        Fault::NodeRestarted => format!("accepted and signed again ({took} ms after the kill)"),
    }
}
