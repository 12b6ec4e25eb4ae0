//! Queues: a ring, and both of its ends in one handle.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::Portable;
use super::error::SendError;
use super::ring::{Ring, Unfinished};
use super::values::{self, bounded_capacity, not_made};
use crate::error::{Error, ErrorKind};
use crate::shm::transit;
use crate::sync::Patience;

/// Both ends of a channel in one: everybody who has it puts and gets.
///
/// Its clones, here and wherever it was sent, are the same queue. It is sent as an argument or a
/// result of a process function, or over a pipe, alone or within any serializable type.
///
/// First in, first out. Each value is got whole, by one who gets, whatever is killed; what was put
/// does not need who put it any more. Since everybody who has it may put, it ends when
/// somebody calls [`close`](Queue::close); where an end should come by itself, use
/// [`channel`](crate::channel).
///
/// Dropping the last handle, in all processes, drops what is in it.
///
/// ```
/// use mp::Queue;
///
/// #[mp::process_fn]
/// fn work(jobs: Queue<u32>, results: Queue<u32>) {
///     while let Ok(job) = jobs.get() {
///         results.put(job * job).expect("it is open");
///         jobs.task_done().expect("it was put");
///     }
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let (jobs, results) = (Queue::bounded(100)?, Queue::unbounded()?);
///     let worker = mp::spawn!(work(jobs.clone(), results.clone()))?;
///     (0..10).try_for_each(|job| jobs.put(job))?;
///     jobs.join()?;
///     jobs.close();
///     worker.join()?;
///     assert_eq!((results.len(), results.get()?), (10, 0));
///     Ok(())
/// }
/// ```
#[doc(alias = "SimpleQueue")]
#[doc(alias = "JoinableQueue")]
pub struct Queue<T> {
    ring: Arc<Ring>,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// Makes a queue for at most `capacity` values.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put('a')?;
    /// assert_eq!(queue.get()?, 'a');
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a capacity of 0, [`ErrorKind::OutOfMemory`] if there is no
    /// memory for it, [`ErrorKind::Io`] if there is no descriptor: it takes one.
    pub fn bounded(capacity: usize) -> Result<Queue<T>, Error> {
        Queue::create(bounded_capacity(capacity)?)
    }

    /// Makes a queue for as many values as there is memory for. It grows as they come; its memory
    /// goes back to the system once they were got, but for some 16 MiB.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::unbounded()?;
    /// (0..1000).try_for_each(|x| queue.put(x))?;
    /// assert_eq!(queue.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`bounded`](Queue::bounded).
    pub fn unbounded() -> Result<Queue<T>, Error> {
        Queue::create(0)
    }

    fn create(capacity: u32) -> Result<Queue<T>, Error> {
        Ring::create(capacity).map(Queue::of).map_err(not_made)
    }

    fn of(ring: Ring) -> Queue<T> {
        Queue {
            ring: Arc::new(ring),
            item: PhantomData,
        }
    }

    /// How many values are in it; when this returns it may be another number.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nothing is in it.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// assert!(mp::Queue::<u8>::bounded(2)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends it, for everybody: nothing can be put any more, what is in it can be got, and then
    /// [`get`](Queue::get) is [`ErrorKind::Closed`]. Wakes all who wait. What somebody is just putting
    /// may still come.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// queue.close();
    /// assert_eq!(queue.put(2).unwrap_err().into_inner(), 2);
    /// assert_eq!(queue.get()?, 1);
    /// assert_eq!(queue.get().unwrap_err().kind(), mp::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "shutdown")]
    pub fn close(&self) {
        self.ring.close();
    }

    /// A value that was got is worked off; see [`join`](Queue::join).
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// queue.task_done()?;
    /// assert!(queue.task_done().is_err()); // there was only one
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if this was said of all that were put already.
    pub fn task_done(&self) -> Result<(), Error> {
        match self.ring.note_done() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                "`task_done` was called more often than values were put",
            )),
        }
    }

    /// Waits until [`task_done`](Queue::task_done) was called for every value that was put, by the
    /// process that got it; the last of these calls wakes it. A process that dies in between never
    /// calls it: once all other values are worked off, that is an error. (A [`Pool`](crate::pool::Pool)
    /// tells of each task what became of it.)
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| queue.get().and_then(|_| queue.task_done()));
    ///     queue.join()
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Died`] if what is left was got by processes that ended without it. (Of the first
    /// 64 that got something, that is known.)
    pub fn join(&self) -> Result<(), Error> {
        self.wait_finished(Patience::Forever)
    }

    /// As [`join`](Queue::join), waiting at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// let late = queue.join_timeout(std::time::Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(late.kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] if not all were worked off by then, and as those of
    /// [`join`](Queue::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.wait_finished(Patience::lasting(timeout))
    }

    fn wait_finished(&self, patience: Patience) -> Result<(), Error> {
        self.ring.wait_finished(patience).map_err(|why| match why {
            Unfinished::TimedOut => Error::new(
                ErrorKind::TimedOut,
                format!(
                    "{} values were not worked off in time",
                    self.ring.unfinished()
                ),
            ),
            Unfinished::Lost { count, process_id } => Error::new(
                ErrorKind::Died,
                format!(
                    "of the values of the queue {count} will never be worked off: who had got them \
                     has ended, the process with the id {process_id} for one"
                ),
            )
            .with_process_id(process_id),
        })
    }
}

impl<T> Queue<T> {
    /// Puts a value in. While the queue is full it waits; who gets a value wakes it.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put("one".to_owned())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// With the value: [`ErrorKind::Closed`] if the queue was closed, [`ErrorKind::Encode`] if the
    /// value cannot be encoded, [`ErrorKind::Unsupported`] if it has a handle in it,
    /// [`ErrorKind::OutOfMemory`] if there is no memory for it.
    #[inline]
    pub fn put(&self, value: T) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put_within(value, Patience::Forever)
    }

    /// Puts a value in if there is room. If others are just putting, that is waited for, for some
    /// 20 ms.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(1)?;
    /// queue.try_put(1)?;
    /// assert_eq!(queue.try_put(2).unwrap_err().kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`put`](Queue::put), and [`ErrorKind::TimedOut`] if the queue is full.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put_within(value, Patience::Never)
    }

    /// As [`put`](Queue::put), waiting at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(1)?;
    /// queue.put_timeout(1, Duration::MAX)?;
    /// assert!(queue.put_timeout(2, Duration::from_millis(5)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`put`](Queue::put), and [`ErrorKind::TimedOut`] if it is still full then.
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        self.put_within(value, Patience::lasting(timeout))
    }

    #[inline]
    fn put_within(&self, value: T, patience: Patience) -> Result<(), SendError<T>>
    where
        T: Portable,
    {
        values::put(&self.ring, value, patience, |_| false, closed)
    }

    /// Gets the oldest value out. While there is none it waits; who puts one wakes it.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the queue was closed and is empty, [`ErrorKind::Decode`] if what was
    /// put is no `T` (it is gone; the next call gets the next one), [`ErrorKind::OutOfMemory`] if
    /// there is no memory for it here (it stays).
    #[inline]
    pub fn get(&self) -> Result<T, Error>
    where
        T: Portable,
    {
        self.get_within(Patience::Forever)
    }

    /// Gets the oldest value out if there is one. If others are just getting, that is waited for, for
    /// some 20 ms.
    ///
    /// ```
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::<u8>::bounded(1)?;
    /// assert_eq!(queue.try_get().unwrap_err().kind(), mp::ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`get`](Queue::get), and [`ErrorKind::TimedOut`] if there is none.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, Error>
    where
        T: Portable,
    {
        self.get_within(Patience::Never)
    }

    /// As [`get`](Queue::get), waiting at most for `timeout` on the monotonic clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), mp::Error> {
    /// let queue = mp::Queue::<u8>::bounded(1)?;
    /// assert!(queue.get_timeout(Duration::from_millis(5)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`get`](Queue::get), and [`ErrorKind::TimedOut`] if there is none by then.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, Error>
    where
        T: Portable,
    {
        self.get_within(Patience::lasting(timeout))
    }

    #[inline]
    fn get_within(&self, patience: Patience) -> Result<T, Error>
    where
        T: Portable,
    {
        let note = || self.ring.note_taken();
        values::take(&self.ring, patience, |_| false, note, closed)
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the queue was closed")
}

impl<T> Clone for Queue<T> {
    /// Another handle to the same queue.
    fn clone(&self) -> Queue<T> {
        Queue {
            ring: Arc::clone(&self.ring),
            item: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T: 'static> Serialize for Queue<T> {
    /// Sends the handle; works within arguments and results of process functions, and over pipes,
    /// alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::send_files::<Queue<T>, S>(&[self.ring.file()], serializer)
    }
}

impl<'de, T: 'static> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T>, D::Error> {
        let [memory] = transit::receive_files::<Queue<T>, D, 1>(deserializer)?;
        let ring = Ring::adopt(memory).map_err(serde::de::Error::custom)?;
        Ok(Queue::of(ring))
    }
}
