//! What a send that failed gives back.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A value that was not sent, and why.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (tx, rx) = mp::channel(1)?;
/// tx.send("first".to_owned())?;
/// let error = tx.try_send("second".to_owned()).unwrap_err();
/// assert_eq!(error.kind(), mp::ErrorKind::TimedOut); // it is full
/// assert_eq!(error.into_inner(), "second");
/// # drop(rx);
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
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// drop(rx);
    /// let error = tx.send(7).unwrap_err();
    /// assert_eq!(error.into_inner(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Why it was not sent.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// drop(rx);
    /// let error = tx.send(7).unwrap_err();
    /// assert_eq!(error.error().to_string(), "the channel has no receiver any more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Why it was not sent, without the value.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// drop(rx);
    /// let error = tx.send(7).unwrap_err();
    /// let error: mp::Error = error.into_error();
    /// assert_eq!(error.kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_error(self) -> Error {
        self.error
    }

    /// What kind of failure this is.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// drop(rx);
    /// let error = tx.send(7).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
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
        self.error.source()
    }
}
