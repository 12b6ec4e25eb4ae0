//! Channels: a ring, and who has an end of it.
//!
//! Beside the ring each channel has a pipe that nobody writes to. A process with senders has the end
//! to write to, one with receivers the end to read from, and a handle on its way to another
//! process carries its end. So whether a living sender or receiver is left anywhere is known to the
//! kernel, however those that had one ended, and one poll tells it.
//!
//! | who | looks whether the other side is there |
//! | --- | --- |
//! | a receiver that finds nothing, a sender that finds no room | when a process has let go of its end; after a sleep that nobody ended; when it has no more patience |
//! | a sender | besides, before every 256th message |
//!
//! A process that lets go of its end in order says so in the ring. Of one that was killed, who sleeps
//! learns after its slice of 50 ms.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::Portable;
use super::error::SendError;
use super::ring::Ring;
use super::values::{self, bounded_capacity, not_made};
use super::wait::Look;
use crate::error::{Error, ErrorKind};
use crate::os::descriptor;
use crate::os::shared_fd::SharedFd;
use crate::shm::transit;
use crate::sync::Patience;

/// Makes a channel for at most `capacity` messages that were not received.
///
/// ```
/// #[mp::process_fn]
/// fn count(to: mp::Sender<u32>) {
///     for x in 0..1000 {
///         to.send(x).expect("somebody listens");
///     }
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let (tx, rx) = mp::channel(16)?;
///     let process = mp::spawn!(count(tx))?;
///     assert_eq!(rx.iter().sum::<u32>(), 499_500);
///     process.join()
/// }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] for a capacity of 0, [`ErrorKind::OutOfMemory`] if there is no memory
/// for it, [`ErrorKind::Io`] if there are no descriptors: it takes three.
pub fn channel<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error> {
    open(bounded_capacity(capacity)?)
}

/// Makes a channel for as many messages as there is memory for. It grows as they come; its memory
/// goes back to the system once they were received, but for some 16 MiB.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (tx, rx) = mp::unbounded_channel()?;
/// for x in 0..100_000 {
///     tx.send(x)?; // never waits for a receiver
/// }
/// assert_eq!(rx.len(), 100_000);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As those of [`channel`].
pub fn unbounded_channel<T>() -> Result<(Sender<T>, Receiver<T>), Error> {
    open(0)
}

fn open<T>(capacity: u32) -> Result<(Sender<T>, Receiver<T>), Error> {
    let ends = || -> std::io::Result<_> {
        let ring = Arc::new(Ring::create(capacity)?);
        let (reader, writer) = descriptor::pipe()?;
        let half = |end| -> std::io::Result<_> {
            Ok(Arc::new(Half::new(
                Arc::clone(&ring),
                SharedFd::adopt(end)?,
            )))
        };
        Ok((half(writer)?, half(reader)?))
    };
    let (sender, receiver) = ends().map_err(not_made)?;
    Ok((Sender::of(sender), Receiver::of(receiver)))
}

/// What a process has of a channel: one of its ends.
#[derive(Debug)]
struct Half {
    ring: Arc<Ring>,
    end: Arc<SharedFd>,
    /// How often a process had let go of its end when this one last looked who is left.
    seen_leavings: AtomicU32,
}

impl Half {
    fn new(ring: Arc<Ring>, end: Arc<SharedFd>) -> Half {
        // When this process has let go of it, others may wait for just that.
        let left = Arc::clone(&ring);
        end.on_leaving(move || left.leave());
        Half {
            seen_leavings: AtomicU32::new(ring.leavings()),
            ring,
            end,
        }
    }

    /// Whether nobody has the other end any more.
    fn is_deserted(&self, look: Look) -> bool {
        let leavings = self.ring.leavings();
        if look == Look::Glance && self.seen_leavings.load(Ordering::Relaxed) == leavings {
            return false;
        }
        // What cannot be asked is taken to be there.
        let is_deserted = descriptor::is_hung_up(self.end.as_fd()).unwrap_or(false);
        if !is_deserted {
            self.seen_leavings.store(leavings, Ordering::Relaxed);
        }
        is_deserted
    }

    /// How closely a sender looks who is left before it sends.
    #[inline]
    fn look(&self) -> Look {
        match self.ring.put_count().is_multiple_of(256) {
            true => Look::Close,
            false => Look::Glance,
        }
    }

    fn send<K: 'static, S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::send_files::<K, S>(&[self.ring.file(), &self.end], serializer)
    }

    fn receive<'de, K: 'static, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Half>, D::Error> {
        let [memory, end] = transit::receive_files::<K, D, 2>(deserializer)?;
        let ring = Ring::adopt(memory).map_err(serde::de::Error::custom)?;
        Ok(Arc::new(Half::new(Arc::new(ring), end)))
    }
}

/// The end of a channel to send to.
///
/// Its clones, here and wherever it was sent, are the same end. It is sent as an argument or a
/// result of a process function, or over a pipe, alone or within any serializable type.
///
/// Messages of one sender are received in the order in which they were sent. Each is received whole,
/// by one receiver, whatever is killed: a sender that is killed while it sends has sent the whole
/// message or nothing; what it has sent does not need it any more.
///
/// Dropping the last sender, in all processes, ends the channel: receivers get what is there, and then
/// [`ErrorKind::Closed`]. A process that ends has dropped all it had, however it ends. A pool keeps
/// the arguments of a task until it has its result, since it may have to send them again: so does the
/// end of a channel among them count as there.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (tx, rx) = mp::channel(8)?;
/// tx.send(vec![0.5, 1.5])?;
/// drop(tx);
/// assert_eq!(rx.recv()?, [0.5, 1.5]);
/// assert_eq!(rx.recv().unwrap_err().kind(), mp::ErrorKind::Closed);
/// # Ok(())
/// # }
/// ```
pub struct Sender<T> {
    half: Arc<Half>,
    item: PhantomData<fn(T)>,
}

/// The end of a channel to receive from.
///
/// Its clones, here and wherever it was sent, are the same end: each message goes to one of them. It
/// is sent as an argument or a result of a process function, or over a pipe, alone or within any
/// serializable type.
///
/// Iterating over it ends at the first error, mostly [`ErrorKind::Closed`]; where messages may come that
/// cannot be decoded, call [`recv`](Receiver::recv), which goes on behind them.
///
/// A receiver that is killed takes with it the message that it was being given; all others
/// stay where they are.
///
/// Dropping the last receiver, in all processes, drops what was not received; senders get
/// [`ErrorKind::Closed`].
///
/// ```
/// #[mp::process_fn]
/// fn sum(from: mp::Receiver<u64>) -> u64 {
///     from.iter().sum()
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let (tx, rx) = mp::channel(64)?;
///     let workers = [mp::spawn!(sum(rx.clone()))?, mp::spawn!(sum(rx))?];
///     (0..1000).try_for_each(|x| tx.send(x))?;
///     drop(tx);
///     let mut total = 0;
///     for worker in workers {
///         total += worker.join()?;
///     }
///     assert_eq!(total, 499_500);
///     Ok(())
/// }
/// ```
pub struct Receiver<T> {
    half: Arc<Half>,
    item: PhantomData<fn() -> T>,
}

impl<T> Sender<T> {
    /// Sends a value. While the channel is full it waits; a receiver that takes a message wakes it.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// tx.send("one".to_owned())?;
    /// assert_eq!(rx.recv()?, "one");
    /// drop(rx);
    /// assert_eq!(tx.send("two".to_owned()).unwrap_err().into_inner(), "two");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// With the value: [`ErrorKind::Closed`] if no receiver is left (of one that was killed, it may
    /// learn only some messages later), [`ErrorKind::Encode`] if the value cannot be encoded,
    /// [`ErrorKind::Unsupported`] if it has a handle in it, [`ErrorKind::OutOfMemory`] if there is
    /// no memory for it.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put(value, Patience::Forever)
    }

    /// Sends a value if there is room. If others are just sending, that is waited for, for some 20 ms.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, _rx) = mp::channel(1)?;
    /// tx.try_send(1)?;
    /// let full = tx.try_send(2).unwrap_err();
    /// assert_eq!(full.kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`send`](Sender::send), and [`ErrorKind::TimedOut`] if the channel is full.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put(value, Patience::Never)
    }

    /// As [`send`](Sender::send), waiting at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, _rx) = mp::channel(1)?;
    /// tx.send_timeout(1, Duration::MAX)?;
    /// let full = tx.send_timeout(2, Duration::from_millis(5)).unwrap_err();
    /// assert_eq!((full.kind(), full.into_inner()), (mp::ErrorKind::TimedOut, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`send`](Sender::send), and [`ErrorKind::TimedOut`] if it is still full then.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put(value, Patience::lasting(timeout))
    }

    #[inline]
    fn put(&self, value: T, patience: Patience) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        let half = &self.half;
        if half.is_deserted(half.look()) {
            return Err(SendError::new(value, no_receiver()));
        }
        let is_deserted = |look| half.is_deserted(look);
        values::put(&half.ring, value, patience, is_deserted, no_receiver)
    }
}

impl<T> Receiver<T> {
    /// Receives a value. While there is none it waits; a sender that sends one wakes it.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(1)?;
    /// std::thread::spawn(move || tx.send(7));
    /// assert_eq!(rx.recv()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if nothing is there and no sender is left, [`ErrorKind::Decode`] if the
    /// message is no `T` (it is gone; the next call receives the next one), [`ErrorKind::OutOfMemory`]
    /// if there is no memory for it here (it stays).
    #[inline]
    pub fn recv(&self) -> Result<T, Error>
    where
        T: Portable,
    {
        self.take(Patience::Forever)
    }

    /// Receives a value if there is one. If others are just receiving, that is waited for, for some
    /// 20 ms.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel::<u8>(1)?;
    /// assert_eq!(rx.try_recv().unwrap_err().kind(), mp::ErrorKind::TimedOut);
    /// drop(tx);
    /// assert_eq!(rx.try_recv().unwrap_err().kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`recv`](Receiver::recv), and [`ErrorKind::TimedOut`] if there is none.
    pub fn try_recv(&self) -> Result<T, Error>
    where
        T: Portable,
    {
        self.take(Patience::Never)
    }

    /// As [`recv`](Receiver::recv), waiting at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel::<u8>(1)?;
    /// let nothing = rx.recv_timeout(Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(nothing.kind(), mp::ErrorKind::TimedOut);
    /// # drop(tx);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`recv`](Receiver::recv), and [`ErrorKind::TimedOut`] if there is none by then.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, Error>
    where
        T: Portable,
    {
        self.take(Patience::lasting(timeout))
    }

    #[inline]
    fn take(&self, patience: Patience) -> Result<T, Error>
    where
        T: Portable,
    {
        let half = &self.half;
        let is_deserted = |look| half.is_deserted(look);
        values::take(&half.ring, patience, is_deserted, || (), no_sender)
    }

    /// An iterator that receives, until [`recv`](Receiver::recv) fails; mostly because no sender is
    /// left. [`Iter::error`] tells why.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let (tx, rx) = mp::channel(4)?;
    /// tx.send(1)?;
    /// tx.send(2)?;
    /// drop(tx);
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Iter<'_, T>
    where
        T: Portable,
    {
        Iter {
            receiver: self,
            error: None,
        }
    }
}

#[cold]
fn no_receiver() -> Error {
    Error::new(ErrorKind::Closed, "the channel has no receiver any more")
}

#[cold]
fn no_sender() -> Error {
    let message = "the channel is empty, and has no sender any more";
    Error::new(ErrorKind::Closed, message)
}

macro_rules! end {
    ($end:ident) => {
        impl<T> $end<T> {
            fn of(half: Arc<Half>) -> $end<T> {
                $end {
                    half,
                    item: PhantomData,
                }
            }

            /// How many messages were sent and not received; when this returns it may be another
            /// number.
            ///
            /// ```
            /// # fn main() -> Result<(), mp::Error> {
            /// let (tx, rx) = mp::channel(4)?;
            /// tx.send(1)?;
            /// assert_eq!((tx.len(), rx.len()), (1, 1));
            /// # Ok(())
            /// # }
            /// ```
            #[doc(alias = "qsize")]
            pub fn len(&self) -> usize {
                self.half.ring.len()
            }

            /// Whether there is no message that was not received.
            ///
            /// ```
            /// # fn main() -> Result<(), mp::Error> {
            /// let (tx, rx) = mp::channel::<u8>(4)?;
            /// assert!(tx.is_empty() && rx.is_empty());
            /// # Ok(())
            /// # }
            /// ```
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl<T> Clone for $end<T> {
            /// Another handle to the same end.
            fn clone(&self) -> $end<T> {
                $end::of(Arc::clone(&self.half))
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("len", &self.len())
                    .finish_non_exhaustive()
            }
        }

        impl<T: 'static> Serialize for $end<T> {
            /// Sends the handle; works within arguments and results of process functions, and over
            /// pipes, alone.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.half.send::<$end<T>, S>(serializer)
            }
        }

        impl<'de, T: 'static> Deserialize<'de> for $end<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$end<T>, D::Error> {
                Half::receive::<$end<T>, D>(deserializer).map($end::of)
            }
        }
    };
}

end!(Sender);
end!(Receiver);

/// What [`Receiver::iter`] gives.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (tx, rx) = mp::channel::<u8>(4)?;
/// drop(tx);
/// let mut iter = rx.iter();
/// assert!(iter.next().is_none());
/// assert_eq!(iter.error().unwrap().kind(), mp::ErrorKind::Closed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Iter<'r, T> {
    receiver: &'r Receiver<T>,
    error: Option<Error>,
}

/// What a [`Receiver`] gives that is iterated over.
///
/// ```
/// # fn main() -> Result<(), mp::Error> {
/// let (tx, rx) = mp::channel(4)?;
/// tx.send(7)?;
/// drop(tx);
/// let mut values = rx.into_iter();
/// assert_eq!((values.next(), values.next()), (Some(7), None));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
    error: Option<Error>,
}

macro_rules! iterator {
    ($($iter:ty),*) => {
        $(impl<T> $iter {
            /// Why it has ended.
            ///
            /// ```
            /// # fn main() -> Result<(), mp::Error> {
            /// let (tx, rx) = mp::channel::<u8>(4)?;
            /// drop(tx);
            /// let mut values = rx.into_iter();
            /// assert!(values.error().is_none() && values.next().is_none());
            /// assert_eq!(values.error().map(|error| error.kind()), Some(mp::ErrorKind::Closed));
            /// # Ok(())
            /// # }
            /// ```
            pub fn error(&self) -> Option<&Error> {
                self.error.as_ref()
            }
        }

        impl<T: Portable> Iterator for $iter {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                if self.error.is_some() {
                    return None;
                }
                let received = self.receiver.recv();
                received.map_err(|error| self.error = Some(error)).ok()
            }
        }

        impl<T: Portable> FusedIterator for $iter {})*
    };
}

iterator!(Iter<'_, T>, IntoIter<T>);

impl<T: Portable> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter {
            receiver: self,
            error: None,
        }
    }
}

impl<'r, T: Portable> IntoIterator for &'r Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'r, T>;

    fn into_iter(self) -> Iter<'r, T> {
        self.iter()
    }
}
