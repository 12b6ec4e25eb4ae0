//! What a failed send gives back.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A value could not be sent; it is in here, with the reason.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (here, there) = mp::pipe::<String, ()>()?;
/// drop(there);
/// let error = here.send("nobody listens".to_owned()).unwrap_err();
/// assert_eq!(error.kind(), mp::ErrorKind::Closed);
/// assert_eq!(error.into_inner(), "nobody listens");
/// # Ok(())
/// # }
/// ```
pub struct SendError<T> {
    value: T,
    error: Error,
}

impl<T> SendError<T> {
    pub(crate) fn new(value: T, error: Error) -> SendError<T> {
        SendError { value, error }
    }

    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Why it was not sent.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The reason without the value.
    pub fn into_error(self) -> Error {
        self.error
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl<T> From<SendError<T>> for Error {
    fn from(error: SendError<T>) -> Error {
        error.error
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
