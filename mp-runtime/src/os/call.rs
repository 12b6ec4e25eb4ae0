//! Names of system calls, for errors of many of them in a row: the number of an error alone does not
//! tell which of them it was.

use std::error::Error;
use std::fmt;
use std::io;

/// An error, and the system call that it is of.
#[derive(Debug)]
struct Failed {
    call: &'static str,
    error: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { call, error } = self;
        write!(f, "{call}: {error}")
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Adds the name of the system call to its error; one with a sentence of its own stays as it is.
pub(crate) fn named<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> io::Error {
    move |error| {
        let error = error.into();
        match error.raw_os_error() {
            Some(_) => io::Error::new(error.kind(), Failed { call, error }),
            None => error,
        }
    }
}

/// The error without the name, as the system call gave it.
pub(crate) fn unnamed(error: io::Error) -> io::Error {
    match error.downcast::<Failed>() {
        Ok(failed) => failed.error,
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_name_comes_on_once_and_off_again() {
        let error = named("socketpair")(Errno::EMFILE);
        assert!(error.to_string().starts_with("socketpair: Too many"));
        let error = named("another")(error);
        assert!(error.to_string().starts_with("socketpair: Too many"));
        assert_eq!(unnamed(error).raw_os_error(), Some(Errno::EMFILE as i32));
        let own = io::Error::other("a sentence");
        assert_eq!(unnamed(named("call")(own)).to_string(), "a sentence");
    }
}
