//! `cargo xtask fuzz`: the fuzz targets under a fuzzer, or what of them runs without one. The gate
//! checks that they compile, without a fuzzer and without what a fuzzer needs.
//!
//! What a fuzzer finds out goes below `fuzz/target`, and into the committed corpora with `--keep`
//! alone; what makes it stop, below `fuzz/artifacts`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, ensure};

use crate::process::Run;
use crate::{repo, say, suite, tools};

/// Seconds for each target.
const SECONDS: u32 = 180;

/// Most memory of a target, in MiB.
const MEMORY_MIB_MAX: u32 = 2048;

/// Longest that one input may take, in seconds.
const INPUT_SECONDS_MAX: u32 = 25;

/// Runs the fuzz targets: with a nightly toolchain and cargo-fuzz, else the committed corpora and a
/// fixed number of mutations
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = SECONDS)]
    seconds: u32,
    /// Add to the committed corpora the fewest found inputs that cover what those do not
    #[arg(long)]
    keep: bool,
    /// Only these, such as `session`
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let all = all()?;
    for target in &args.targets {
        ensure!(all.contains(target), "there is no target {target}; there are {}", all.join(", "));
    }
    let missing = missing();
    if missing.is_empty() {
        let targets = if args.targets.is_empty() { &all } else { &args.targets };
        return targets.iter().try_for_each(|target| {
            fuzz(target, args.seconds)?;
            if args.keep { keep(target) } else { Ok(()) }
        });
    }
    say::progress(format_args!("no fuzzer: {}", missing.join("; ")));
    say::progress("the corpora and a fixed number of mutations of them run instead");
    tools::ensure()?;
    // The layer below the others is replayed beside it.
    suite::some("tests", &["--test", "fuzz"]).run()?;
    suite::some("messaging", &["--test", "torture", "recover"]).run()
}

/// What [`check`] does.
pub(crate) const SHOWN: &str = "cargo clippy, on fuzz/ without libFuzzer";

/// The targets compile, with what the workspace is built of.
pub(crate) fn check() -> anyhow::Result<()> {
    let read = |path: &str| fs::read_to_string(repo::path(path));
    let others = other_versions(&read("Cargo.lock")?, &read("fuzz/Cargo.lock")?);
    ensure!(others.is_empty(), "fuzz/Cargo.lock: other versions than in Cargo.lock: {others:?}");
    let args = ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target"];
    let args = [&args[..], &["--no-default-features", "--locked", "--", "-D", "warnings"]].concat();
    Run::cargo(&args).run()
}

/// What the second lock file has in a version that the first has not, though it has others.
fn other_versions(workspace: &str, fuzz: &str) -> Vec<String> {
    let workspace: BTreeSet<_> = packages(workspace).collect();
    let is_other = |(name, version): &(&str, &str)| {
        !workspace.contains(&(*name, *version)) && workspace.iter().any(|(known, _)| known == name)
    };
    packages(fuzz).filter(is_other).map(|(name, version)| format!("{name} {version}")).collect()
}

/// The names and versions in a lock file.
fn packages(lock: &str) -> impl Iterator<Item = (&str, &str)> {
    lock.split("[[package]]").filter_map(|package| {
        let (name, rest) = package.split_once("name = \"")?.1.split_once('"')?;
        let (version, _) = rest.split_once("version = \"")?.1.split_once('"')?;
        Some((name, version))
    })
}

/// The targets, by the names of their files.
fn all() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(repo::path("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.with_context(|| format!("{} has no name", path.display()))?.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// What it takes and is not here, with its cure.
fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !nightly(&["--version"]).probe() {
        missing.push("there is no nightly toolchain (rustup toolchain install nightly)");
    }
    if !tools::on_path("cargo-fuzz") {
        missing.push("cargo-fuzz is not installed (cargo install cargo-fuzz)");
    }
    missing
}

fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    let [committed, found] = corpora(target);
    fs::create_dir_all(repo::path(&found))?;
    // The first folder is the one that is written to.
    let limits = [
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        "-print_final_stats=1".to_owned(),
    ];
    nightly(&["fuzz", "run", target]).args(&[found, committed]).args(&limits).run()
}

/// How often an edge was taken does not count: only whether.
fn keep(target: &str) -> anyhow::Result<()> {
    let merge = ["--", "-set_cover_merge=1", "-use_counters=0"].map(str::to_owned);
    nightly(&["fuzz", "run", target]).args(&corpora(target)).args(&merge).run()
}

/// The committed corpus of a target, and what was found beside it.
fn corpora(target: &str) -> [String; 2] {
    [format!("fuzz/corpus/{target}"), format!("fuzz/target/corpus/{target}")]
}

/// Through `rustup`: `cargo` here is that of the toolchain of the workspace.
fn nightly(args: &[&str]) -> Run {
    Run::new("rustup", &[&["run", "nightly", "cargo"], args].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_the_workspace_has_not_is_found() {
        let package =
            |name, version| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
        let workspace = [package("a", "1.0.0"), package("b", "1.0.0"), package("b", "2.0.0")];
        let fuzz =
            [package("a", "1.0.1"), package("b", "2.0.0"), package("libfuzzer-sys", "0.4.0")];
        assert_eq!(other_versions(&workspace.concat(), &fuzz.concat()), ["a 1.0.1"]);
    }
}
