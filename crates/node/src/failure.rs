//! Why a command ends without success: one line for a person, one exit code for a script.
//!
//! The line reads `error: what: where (cure)`. The exit codes are those of `sysexits.h` where it has
//! one. The only table from kinds of errors to exit codes is [`Exit`] and the constructors below.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// What `--help` says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  success
   1  it failed for another reason; the line on stderr says which
   2  wrong usage: an unknown option or a value that cannot be read
  69  unavailable: nobody answers there, or the address is in use
  74  input or output: a file, a directory or a lock
  78  configuration: the file, a key in it, or a file that it names";

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything without a code of its own.
    Other = 1,
    /// `EX_USAGE` of most tools, and of the command-line parser.
    Usage = 2,
    /// `EX_UNAVAILABLE`.
    Unavailable = 69,
    /// `EX_IOERR`.
    Io = 74,
    /// `EX_CONFIG`.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 69,
            Exit::Io => 74,
            Exit::Config => 78,
        })
    }
}

/// A command that ended without success.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// A failure with this code; line breaks in `text` become spaces.
    pub(crate) fn new(exit: Exit, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let text = text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
        Self { exit, text }
    }

    pub(crate) fn other(text: impl fmt::Display) -> Self {
        Self::new(Exit::Other, text)
    }

    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn unavailable(text: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, text)
    }

    pub(crate) fn config(text: impl fmt::Display) -> Self {
        Self::new(Exit::Config, text)
    }

    /// A file that could not be read, written, made or removed.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(Exit::Io, format_args!("cannot {doing} {}: {error}", path.display()))
    }

    /// An address that could not be listened on. A socket path that is too long, or an address that
    /// is not of this machine, is the configuration's fault; everything else may pass.
    pub(crate) fn listen(what: &str, address: impl fmt::Display, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = error.kind();
        let (exit, cure) = if kind == Kind::AddrInUse {
            let text = format!(
                "{what}: {address} is in use (stop the other process, or choose another address)"
            );
            return Self::unavailable(text);
        } else if matches!(kind, Kind::InvalidInput | Kind::AddrNotAvailable) {
            (Exit::Config, "choose another address")
        } else if matches!(kind, Kind::PermissionDenied | Kind::NotFound) {
            (Exit::Io, "check the folder and its owner")
        } else {
            (Exit::Unavailable, "choose another address")
        };
        Self::new(exit, format_args!("{what}: cannot listen on {address}: {error} ({cure})"))
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<alys_stream_config::ConfigError> for Failure {
    fn from(error: alys_stream_config::ConfigError) -> Self {
        use alys_stream_config::Problem;
        let exit = match *error.problem {
            Problem::NotAFolder => Exit::Io,
            Problem::UnknownKey { .. }
            | Problem::MissingKey
            | Problem::DuplicateKey
            | Problem::WrongType { .. }
            | Problem::UnknownWord { .. }
            | Problem::Syntax(_)
            | Problem::Invalid { .. } => Exit::Config,
        };
        Self::new(exit, error)
    }
}

impl From<alys_stream_governance::ConfigError> for Failure {
    fn from(error: alys_stream_governance::ConfigError) -> Self {
        Self::config(error)
    }
}

impl From<alys_stream_governance::StartError> for Failure {
    fn from(error: alys_stream_governance::StartError) -> Self {
        use alys_stream_governance::StartErrorKind as Kind;
        let exit = match error.kind() {
            Kind::Config => Exit::Config,
            Kind::Unavailable => Exit::Unavailable,
            Kind::Io => Exit::Io,
        };
        Self::new(exit, error)
    }
}

impl From<alys_stream_actor::StartError> for Failure {
    fn from(error: alys_stream_actor::StartError) -> Self {
        use alys_stream_actor::StartError as Error;
        let exit = match &error {
            Error::Open(_)
            | Error::History(_)
            | Error::Proposals(_)
            | Error::Fence(_)
            | Error::Deaths(_) => Exit::Io,
            Error::Router(_) | Error::Endpoints(_) | Error::Tls(_) | Error::Restore(_) => {
                Exit::Config
            }
            Error::Interrupted(_) => Exit::Other,
        };
        Self::new(exit, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::config("a.yaml: x\n  is wrong\n (fix it)");
        assert_eq!(failure.to_string(), "a.yaml: x is wrong (fix it)");
    }

    #[test]
    fn an_address_in_use_is_unavailable() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let failure = Failure::listen("admin", "127.0.0.1:1", &error);
        assert_eq!(failure.exit(), Exit::Unavailable);
    }
}
