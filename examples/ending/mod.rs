//! How the longer examples end: with a word about their arguments, with an error in its own words, or
//! quietly once nobody reads any more what they print.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The arguments make no sense.
#[derive(Debug)]
pub(crate) struct WrongArguments;

impl fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong arguments")
    }
}

impl Error for WrongArguments {}

/// The code that the program exits with, after it has said why.
pub(crate) fn exit_code(usage: &str, outcome: Outcome) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let failed = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let (text, code) = match failed {
        // `head`, say, has seen enough.
        Some(ErrorKind::BrokenPipe) => return ExitCode::SUCCESS,
        _ if error.is::<WrongArguments>() => (format!("usage: {usage}"), 2),
        _ => (format!("error: {error}"), 1),
    };
    // Standard error may be closed, too.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(code)
}
