//! Running other programs at the root of the repository, as text that can be shown first.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

use crate::{repo, tally::Tally, tools};

/// A program with its arguments and additions to its environment.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    program: String,
    args: Vec<String>,
    env: Vec<(&'static str, OsString)>,
}

impl Run {
    /// `program`, found on the `PATH` or by its path from the root of the repository.
    pub(crate) fn new(program: impl Into<String>, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self { program: program.into(), args, env: Vec::new() }
    }

    /// `cargo` with `args`.
    pub(crate) fn cargo(args: &[&str]) -> Self {
        Self::new("cargo", args)
    }

    /// A program that `xtask` has installed.
    pub(crate) fn tool(name: &str, args: &[&str]) -> Self {
        Self::new(tools::program(name), args)
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: &[String]) -> Self {
        self.args.extend_from_slice(args);
        self
    }

    /// Adds a variable to the environment.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it with this process's input and output.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let status = self.command().status().with_context(|| self.missing())?;
        self.succeeded(status)
    }

    /// Runs it and gives what it wrote to standard output.
    pub(crate) fn stdout(&self) -> anyhow::Result<String> {
        let output =
            self.command().stderr(Stdio::inherit()).output().with_context(|| self.missing())?;
        self.succeeded(output.status)?;
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` wrote no text"))
    }

    /// True when it can be run and succeeds. Shows nothing.
    pub(crate) fn probe(&self) -> bool {
        let status = self.command().stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs it, passes its output through to standard error, and adds up the totals that `count`
    /// finds in its lines.
    pub(crate) fn run_counted(
        &self,
        tally: &mut Tally,
        count: fn(&str) -> Option<Tally>,
    ) -> anyhow::Result<()> {
        self.run_watched(|line| {
            if let Some(found) = count(line) {
                *tally += found;
            }
        })
    }

    /// Runs it, passes its output through to standard error, and shows each line of it to `see`.
    pub(crate) fn run_watched(&self, mut see: impl FnMut(&str)) -> anyhow::Result<()> {
        // Both streams go through one pipe, so that their lines keep their order.
        let (reader, writer) = std::io::pipe()?;
        let mut command = self.command();
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().with_context(|| self.missing())?;
        // The command holds the writing ends: the pipe closes when the last copy does.
        drop(command);

        let mut screen = std::io::stderr().lock();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            screen.write_all(&line)?;
            see(&String::from_utf8_lossy(&line));
            line.clear();
        }
        self.succeeded(child.wait()?)
    }

    fn command(&self) -> Command {
        let installed = repo::path(&self.program);
        let mut command = if self.program.contains('/') {
            Command::new(installed)
        } else {
            Command::new(&self.program)
        };
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(repo::root());
        command
    }

    fn succeeded(&self, status: ExitStatus) -> anyhow::Result<()> {
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    fn missing(&self) -> String {
        format!("cannot run `{}`; is it installed?", self.program)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}='{}' ", value.display())?;
        }
        f.write_str(&self.program)?;
        for arg in &self.args {
            write!(f, " {arg}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally;

    #[test]
    fn totals_are_counted_on_both_streams_even_of_a_failing_run() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'\n\
                      echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored' >&2\n\
                      exit 3";
        let mut tally = Tally::default();
        let outcome = Run::new("sh", &["-c", script]).run_counted(&mut tally, tally::harness);
        assert_eq!(tally, Tally { passed: 3, failed: 1 });
        let shown = outcome.expect_err("it exits with 3").to_string();
        assert!(shown.ends_with("failed: exit status: 3"), "{shown}");
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let shown = Run::new("no-such-program", &[]).run().expect_err("it does not exist");
        assert_eq!(shown.to_string(), "cannot run `no-such-program`; is it installed?");
    }

    #[test]
    fn a_run_reads_like_a_shell_command() {
        let run = Run::cargo(&["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(run.to_string(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }
}
