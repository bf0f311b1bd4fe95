//! `sim`: runs the simulation; `cargo xtask sim` is the way to it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alys_stream_simulation::{
    Budget, Edition, Outcome, Planted, Swarm, Totals, Trial, Violation, run,
};
use clap::Parser;

mod report;
mod table;

use report::Desk;

/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Seeds within which every planted bug must be found.
const PLANTED_SEEDS_MAX: u64 = 400;

/// Runs whole nodes and governance nodes in a deterministic simulation, and checks D1 to D12.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// So many seeds.
    #[arg(long, conflicts_with_all = ["minutes", "seed"])]
    seeds: Option<u64>,
    /// Seeds for so long.
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// This seed alone, twice: both runs must be the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Only so many steps of its plan.
    #[arg(long, requires = "seed")]
    steps: Option<usize>,
    /// Shows the event log.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Shows what the product logs; takes the log level.
    #[arg(long, requires = "seed")]
    level: Option<tracing::Level>,
    /// The first seed of many.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Plants every bug in turn, and shows that each is found.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    planted: bool,
    /// Plants this bug alone.
    #[arg(long)]
    bug: Option<String>,
    /// The world as it was once.
    #[arg(long, default_value = "fourth")]
    edition: Edition,
    /// Threads; as many as there are cores unless said.
    #[arg(long)]
    threads: Option<usize>,
    /// Where event logs of failures go.
    #[arg(long, default_value = "target/sim")]
    logs: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bug = args.bug.as_deref().map(bug).transpose()?;
    match args.seed {
        Some(seed) => one(&args, seed, bug),
        None if args.planted => planted(&args),
        None => many(&args, bug),
    }
}

fn bug(name: &str) -> anyhow::Result<Planted> {
    let found = Planted::ALL.into_iter().find(|bug| bug.as_str() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Planted::ALL.iter().map(|bug| bug.as_str()).collect();
        anyhow::anyhow!("no bug is called {name}; there are {}", names.join(", "))
    })
}

fn threads(args: &Args) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.unwrap_or(cores).max(1)
}

/// One seed, twice.
fn one(args: &Args, seed: u64, bug: Option<Planted>) -> anyhow::Result<()> {
    if let Some(level) = args.level {
        tracing_subscriber::fmt().with_max_level(level).without_time().with_ansi(false).init();
    }
    let trial = Trial { seed, planted: bug, steps: args.steps, edition: args.edition };
    let (desk, outcome) = (desk(args), run(trial));
    if args.trace {
        std::io::stdout().write_all(outcome.log.as_bytes())?;
    }
    if args.level.is_none() {
        let again = run(trial);
        if again.log != outcome.log {
            let (one, other) = (desk.keep(&outcome, "a")?, desk.keep(&again, "b")?);
            anyhow::bail!(
                "seed {seed} is not deterministic: compare {} and {}",
                one.display(),
                other.display()
            );
        }
    }
    say(&format!(
        "seed {seed}: {} steps, {:?} of virtual time, {} events",
        outcome.steps,
        outcome.elapsed,
        outcome.log.lines().count()
    ))?;
    if outcome.violations.is_empty() {
        return Ok(());
    }
    say_all(&desk.failures(&[(&outcome, trial)])?)?;
    anyhow::bail!("seed {seed} breaks a promise")
}

/// Many seeds.
fn many(args: &Args, bug: Option<Planted>) -> anyhow::Result<()> {
    let budget = match (args.minutes, args.seeds) {
        (Some(minutes), _) => Budget::Time(Duration::from_secs(minutes * 60)),
        (None, seeds) => Budget::Seeds(seeds.unwrap_or(100)),
    };
    let (first, threads, edition) = (args.first, threads(args), args.edition);
    let swarm = Swarm { first, budget, planted: bug, edition, threads };
    let mut said_at = now();
    let totals = swarm.run(|totals| {
        if said_at.elapsed() >= PROGRESS_EVERY {
            said_at = now();
            // A line that cannot be written is no reason to stop.
            drop(say(&report::progress(totals)));
        }
        true
    });
    say(&report::progress(&totals))?;
    say(&table::of(&totals.coverage))?;
    let trial = |seed| Trial { seed, planted: bug, steps: None, edition };
    let failures = totals.failures.values().map(|outcome| (outcome, trial(outcome.seed)));
    say_all(&desk(args).failures(&failures.collect::<Vec<_>>())?)?;
    let seeds: Vec<u64> = totals.failures.keys().copied().collect();
    anyhow::ensure!(seeds.is_empty(), "{} seeds break a promise: {seeds:?}", seeds.len());
    if bug.is_none() && edition == Edition::default() {
        let (count, missing) = (totals.seeds, table::missing(&totals));
        anyhow::ensure!(
            missing.is_empty(),
            "{count} seeds should have exercised these, or never can (coverage::reach): {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Every planted bug, until it is found.
fn planted(args: &Args) -> anyhow::Result<()> {
    let mut missed = Vec::new();
    for bug in Planted::ALL {
        let (first, threads) = (args.first, threads(args));
        let budget = Budget::Seeds(PLANTED_SEEDS_MAX);
        let swarm = Swarm { first, budget, planted: Some(bug), edition: args.edition, threads };
        let totals = swarm.run(|totals| !is_found(totals, bug));
        let found = totals.failures.values().find(|outcome| broken(outcome, bug).is_some());
        let line = match found {
            Some(outcome) => {
                let text = broken(outcome, bug).map(|it| it.text.as_str());
                format!("seed {} of {}: {}", outcome.seed, totals.seeds, text.unwrap_or_default())
            }
            None => {
                missed.push(bug.as_str());
                format!("not found within {} seeds", totals.seeds)
            }
        };
        say(&format!("{:<4} {:<18} {line}", bug.promise(), bug.as_str()))?;
    }
    anyhow::ensure!(missed.is_empty(), "not found: {}", missed.join(", "));
    Ok(())
}

fn is_found(totals: &Totals, bug: Planted) -> bool {
    totals.failures.values().any(|outcome| broken(outcome, bug).is_some())
}

/// What broke the promise that the bug is about.
fn broken(outcome: &Outcome, bug: Planted) -> Option<&Violation> {
    let promise = bug.promise().to_lowercase();
    outcome.violations.iter().find(|violation| {
        violation.invariant.split('_').next().is_some_and(|broken| broken == promise)
    })
}

fn desk(args: &Args) -> Desk {
    Desk { logs: args.logs.clone(), threads: threads(args) }
}

fn say_all(texts: &[String]) -> anyhow::Result<()> {
    texts.iter().try_for_each(|text| say(text))
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long a swarm takes is real time")]
fn now() -> Instant {
    Instant::now()
}
