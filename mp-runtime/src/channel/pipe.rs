//! Pipes: two connected ends, for two processes.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, Portable};
use super::error::SendError;
use super::letter::Letter;
use super::line::{self, Line, Until};
use crate::error::{Error, ErrorKind};
use crate::shm::transit;
use crate::wire::{self, Apart, Decoder, Payload};

/// Makes a pipe (`multiprocessing.Pipe`): what is sent at one end is received at the other, both
/// ways.
///
/// Keep one end and give the other to a process, or give each to another one.
///
/// ```
/// use mp::Connection;
///
/// #[mp::process_fn]
/// fn shout(to: Connection<String, String>) {
///     while let Ok(text) = to.recv() {
///         to.send(text.to_uppercase()).expect("who asks receives the answer");
///     }
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let (here, there) = mp::pipe::<String, String>()?;
///     let process = mp::spawn!(shout(there))?;
///     here.send("hello".to_owned())?;
///     assert_eq!(here.recv()?, "HELLO");
///     drop(here);
///     process.join()
/// }
/// ```
///
/// # Errors
///
/// If there are not enough free descriptors: it takes one for each end.
#[doc(alias = "Pipe")]
#[expect(
    clippy::type_complexity,
    reason = "a name for the two ends would say less than they do"
)]
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), Error> {
    let (here, there) = line::pair()?;
    Ok((Connection::over(here), Connection::over(there)))
}

/// One end of a [`pipe`]: it sends `S`, receives `R`, and may itself be an argument or a result of a
/// process function or go over another pipe.
///
/// Messages may be of any length, and carry handles: [`Shared`](crate::shm::Shared) and arrays,
/// other connections, senders, receivers and regions of `ipc_channel`. Not an
/// [`ArrayChunk`](crate::sync::ArrayChunk), whose array has to know at every moment which process
/// has it, or would get it back: that is [`Unsupported`](ErrorKind::Unsupported); give it to a
/// process as an argument.
///
/// What one thread sends is received in that order. Sending waits only while the other side has much
/// to receive yet, and never for one that is sending as well: two ends that send to each other
/// without receiving both get on. When the other end is gone, since it was dropped or its process
/// was killed, what it has sent is still received, and then everything is
/// [`Closed`](ErrorKind::Closed).
///
/// Its descriptor ([`AsFd`]) is readable when there is something to receive, or the other end is
/// gone.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (a, b) = mp::pipe::<u32, String>()?;
/// a.send(7)?;
/// assert_eq!(b.recv()?, 7);
/// b.send("seven".to_owned())?;
/// assert_eq!(a.recv()?, "seven");
/// # Ok(())
/// # }
/// ```
pub struct Connection<S, R> {
    line: Line,
    directions: PhantomData<fn(S) -> R>,
}

impl<S, R> Connection<S, R> {
    fn over(line: Line) -> Connection<S, R> {
        Connection {
            line,
            directions: PhantomData,
        }
    }

    /// Sends a value. If the other side has much to receive yet this waits; what wakes it is room, and
    /// the end of the other side.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (here, there) = mp::pipe::<Vec<u8>, ()>()?;
    /// here.send(vec![7; 10 << 20])?;
    /// assert_eq!(there.recv()?.len(), 10 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) if the other end is gone, [`Encode`](ErrorKind::Encode) if the
    /// value cannot be turned into bytes, [`OutOfMemory`](ErrorKind::OutOfMemory),
    /// [`Unsupported`](ErrorKind::Unsupported) for a part of an array, and [`Io`](ErrorKind::Io) if
    /// there are not enough descriptors. The error has the value in it.
    pub fn send(&self, value: S) -> Result<(), SendError<S>>
    where
        S: Portable,
    {
        let sent = match codec::plain_bytes(&value) {
            Some(bytes) => self.line.send(bytes, None),
            None => encode(&value).and_then(|payload| {
                let handles = payload.handles.as_ref();
                self.line.send(&payload.bytes, handles)
            }),
        };
        sent.map_err(|error| SendError::new(value, error))
    }

    /// Waits for a value. What wakes it is a message, and the end of the other side.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (here, there) = mp::pipe::<u32, ()>()?;
    /// here.send(7)?;
    /// drop(here);
    /// assert_eq!(there.recv()?, 7);
    /// assert_eq!(there.recv().unwrap_err().kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) if the other end is gone and all it sent was received. If one
    /// message cannot be taken in, that one is lost, and the next call goes on with the one behind it:
    /// [`Decode`](ErrorKind::Decode) if it does not make sense, [`Io`](ErrorKind::Io) or
    /// [`OutOfMemory`](ErrorKind::OutOfMemory) if there are not enough descriptors or memory for it.
    pub fn recv(&self) -> Result<R, Error>
    where
        R: Portable,
    {
        loop {
            if let Some(letter) = self.line.receive(Until::Ever)? {
                return decode(letter);
            }
        }
    }

    /// Waits for a value, at most so long.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::time::Duration;
    ///
    /// let (here, there) = mp::pipe::<u32, ()>()?;
    /// let error = there.recv_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::TimedOut);
    /// here.send(7)?;
    /// assert_eq!(there.recv_timeout(Duration::from_millis(5))?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut), and those of [`recv`](Connection::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, Error>
    where
        R: Portable,
    {
        match self.line.receive(Until::after(timeout))? {
            Some(letter) => decode(letter),
            None => Err(none_came(&format!("in {timeout:?}"))),
        }
    }

    /// Receives a value if there is one, without waiting.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (here, there) = mp::pipe::<u32, ()>()?;
    /// let error = there.try_recv().unwrap_err();
    /// assert_eq!(error.kind(), mp::ErrorKind::TimedOut); // there is none
    /// here.send(7)?;
    /// assert_eq!(there.try_recv()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if there is none, and those of [`recv`](Connection::recv).
    pub fn try_recv(&self) -> Result<R, Error>
    where
        R: Portable,
    {
        match self.line.receive(Until::Now)? {
            Some(letter) => decode(letter),
            None => Err(none_came("by now")),
        }
    }

    /// Waits until there is something to receive, at most so long; tells whether there is. It is
    /// also if the other end is gone: [`recv`](Connection::recv) then tells.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// use std::time::Duration;
    ///
    /// let (here, there) = mp::pipe::<u32, ()>()?;
    /// assert!(!there.poll(Duration::ZERO)?);
    /// here.send(7)?;
    /// assert!(there.poll(Duration::MAX)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the kernel refuses.
    pub fn poll(&self, timeout: Duration) -> Result<bool, Error> {
        self.line.poll(Until::after(timeout))
    }
}

/// Turns a value into a message.
fn encode<S: Portable>(value: &S) -> Result<Payload, Error> {
    let payload = Payload::encode(|to| to.value(value)).map_err(|error| {
        let message = format!("a message for a pipe could not be encoded: {error}");
        Error::new(ErrorKind::Encode, message).with_source(error)
    })?;
    let handles = payload.handles.as_ref();
    if handles.is_some_and(|handles| !handles.loans().is_empty()) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a chunk of an array cannot go over a pipe: give it to a process as an argument",
        ));
    }
    Ok(payload)
}

/// Turns a message into a value.
fn decode<R: Portable>(mut letter: Letter) -> Result<R, Error> {
    match codec::plain_of_bytes(letter.bytes()) {
        Ok(None) => {}
        Ok(Some(Some(value))) => return Ok(value),
        Ok(Some(None)) => return Err(not_decoded("it has another number of bytes")),
        Err(error) => {
            let message = format!("a message that came over a pipe is lost: {error}");
            return Err(Error::new(ErrorKind::OutOfMemory, message).with_source(error));
        }
    }
    let handles = letter.take_handles()?;
    let decoded = wire::decode(
        letter.bytes(),
        Apart::Nothing,
        handles.as_ref(),
        Decoder::value,
    );
    decoded.map_err(|error| not_decoded(&error.to_string()).with_source(error))
}

#[cold]
fn not_decoded(reason: &str) -> Error {
    let message = format!("a message that came over a pipe could not be decoded: {reason}");
    Error::new(ErrorKind::Decode, message)
}

#[cold]
fn none_came(when: &str) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        format!("no message came over a pipe {when}"),
    )
}

impl<S: 'static, R: 'static> Serialize for Connection<S, R> {
    /// Sends this end; works within arguments and results of process functions and messages of pipes
    /// alone, and not while messages wait in this process, where a `send` has put them to make way.
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let socket = self.line.leave().ok_or_else(|| {
            T::Error::custom(
                "an end of a pipe cannot leave this process while messages for it wait in here: \
                 receive them first",
            )
        })?;
        transit::send_files::<Connection<S, R>, T>(&[socket], serializer)
    }
}

impl<'de, S: 'static, R: 'static> Deserialize<'de> for Connection<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Connection<S, R>, D::Error> {
        let [socket] = transit::receive_files::<Connection<S, R>, D, 1>(deserializer)?;
        Line::over(socket)
            .map(Connection::over)
            .map_err(D::Error::custom)
    }
}

impl<S, R> AsFd for Connection<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("fd", &self.as_fd().as_raw_fd())
            .finish_non_exhaustive()
    }
}
