//! The sentences about calls that came to nothing.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;

use super::{Death, ProcessInfo};
use crate::error::{Error, ErrorKind, Panic};
use crate::link::{Bundle, Record, Reply, Run, Status, ThreadEnd};
use crate::registry::Function;
use crate::wire::{DecodeError, Decoder};

/// Who ran what: the subject of a sentence.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// "worker 2" or "process `p1`".
    pub(crate) name: Arc<str>,
    pub(crate) process_id: u32,
    pub(crate) function: &'static Function,
    /// The place in what was mapped over.
    pub(crate) item: Option<usize>,
}

/// A result as it came, to be decoded by whoever asked for it.
#[derive(Debug)]
pub(crate) struct Answer {
    reply: Reply,
    payload: Range<usize>,
    who: Who,
}

impl Answer {
    /// Reads the value.
    pub(crate) fn decode<R>(
        self,
        read: fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
    ) -> Result<R, Error> {
        // What `Deserialize` of the program, or of a handle that does not exist, panics with, is
        // the fault of this one result.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.reply.decode(&self.payload, read)));
        match decoded {
            Ok(decoded) => decoded.map_err(|error| self.who.not_decoded(&error)),
            Err(panic) => Err(self.who.not_decoded(&panicked(panic))),
        }
    }
}

/// Results of items that stand one behind the other, in what was mapped over and in the message they
/// came with.
#[derive(Debug)]
pub(crate) struct Answers {
    bundle: Bundle,
    /// Where the first of them begins in it.
    at: usize,
    /// The number of its item.
    number: usize,
    /// How many there are.
    count: usize,
    /// Whether errors tell the place of the item.
    is_mapped: bool,
    who: Who,
}

impl Answers {
    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The number of the first one.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Reads each value, in order.
    #[inline]
    pub(crate) fn decode<R>(
        mut self,
        read: impl Fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
        mut take: impl FnMut(usize, Result<R, Error>),
    ) {
        while self.count > 0 {
            let mut done = 0;
            // One guard for all of them, and another for what is behind one that panics.
            let decoded = catch_unwind(AssertUnwindSafe(|| {
                let bundle = self.bundle.open();
                let mut at = self.at;
                for number in (self.number..).take(self.count) {
                    let (payload, next) = bundle.payload_at(at);
                    let result = bundle.reply.decode(payload, &read);
                    (at, done) = (next, done + 1);
                    take(
                        number,
                        result.map_err(|error| self.of(number).not_decoded(&error)),
                    );
                }
            }));
            let Err(panic) = decoded else { return };
            let number = self.number + done;
            let message = panicked(panic);
            take(number, Err(self.of(number).not_decoded(&message)));
            self.skip(done + 1);
        }
    }

    /// Reads the first value, and takes it off.
    #[inline]
    pub(crate) fn decode_first<R>(
        &mut self,
        read: impl Fn(&mut Decoder<'_>) -> Result<R, DecodeError>,
    ) -> Option<(usize, Result<R, Error>)> {
        self.count = self.count.checked_sub(1)?;
        let number = self.number;
        let bundle = self.bundle.open();
        let (payload, next) = bundle.payload_at(self.at);
        (self.at, self.number) = (next, number + 1);
        let decoded = catch_unwind(AssertUnwindSafe(|| bundle.reply.decode(payload, read)));
        let result = match decoded {
            Ok(decoded) => decoded.map_err(|error| self.of(number).not_decoded(&error)),
            Err(panic) => Err(self.of(number).not_decoded(&panicked(panic))),
        };
        Some((number, result))
    }

    fn skip(&mut self, count: usize) {
        let count = count.min(self.count);
        for _ in 0..count {
            self.at = self.bundle.open().payload_at(self.at).1;
        }
        self.number += count;
        self.count -= count;
    }

    #[cold]
    fn of(&self, number: usize) -> Who {
        self.who.of(self.is_mapped.then_some(number))
    }
}

/// What it panicked with, as the reason why it could not be decoded.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> String {
    let message = format!("it panicked: {}", super::panic::message(&*panic));
    // Dropping what somebody panicked with may panic again.
    std::mem::forget(panic);
    message
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.process_id)
    }
}

impl Who {
    /// The worker called `title` runs a function.
    pub(crate) fn runs(title: &Arc<str>, worker: &ProcessInfo, function: &'static Function) -> Who {
        Who {
            name: Arc::clone(title),
            process_id: worker.id,
            function,
            item: None,
        }
    }

    /// The same with an item.
    pub(crate) fn of(&self, item: Option<usize>) -> Who {
        Who {
            item,
            ..self.clone()
        }
    }

    /// "`imaging::resize` (item 17)".
    fn call(&self) -> String {
        match self.item {
            Some(item) => format!("`{}` (item {item})", self.function.name),
            None => format!("`{}`", self.function.name),
        }
    }

    fn error(&self, kind: ErrorKind, message: String) -> Error {
        Error::new(kind, message)
            .with_process_id(self.process_id)
            .with_function(self.function.name)
            .with_item(self.item)
    }

    /// An error whose evidence is how the worker ended.
    fn ended(&self, kind: ErrorKind, message: String, death: &Death) -> Error {
        self.error(kind, message)
            .with_exit_status(death.exit.status)
            .with_stderr(death.stderr.clone())
    }

    /// The worker ended while it ran the call.
    pub(crate) fn died(&self, death: &Death) -> Error {
        if let Some(reason) = &death.given_up {
            return self.broke_off(reason, death);
        }
        let (call, exit) = (self.call(), death.exit);
        let (kind, message) = match (exit.out_of_memory, exit.status) {
            _ if exit.thread == Some(ThreadEnd::LetGo) => (
                ErrorKind::Cancelled,
                format!("{self} {exit} while running {call}"),
            ),
            (Some(evidence), _) => (
                ErrorKind::OutOfMemory,
                format!("{self} ran out of memory while running {call}: {evidence}"),
            ),
            (None, Some(status)) if status.code().is_some() => (
                ErrorKind::Exited,
                format!("{self} {exit} while running {call}"),
            ),
            (None, _) => {
                let limit = death.memory_limit.map_or(String::new(), |bytes| {
                    format!("; its memory limit is {bytes} bytes")
                });
                (
                    ErrorKind::Died,
                    format!("{self} {exit} while running {call}{limit}"),
                )
            }
        };
        self.ended(kind, message, death)
    }

    /// The worker ended before it came to the call.
    pub(crate) fn died_before(&self, death: &Death) -> Error {
        let error = self.died(death);
        let message = error
            .to_string()
            .replacen(" while running ", " before it could run ", 1);
        self.ended(error.kind(), message, death)
    }

    /// The worker went on to the end of its chunk without it.
    pub(crate) fn left_out(&self) -> Error {
        self.error(
            ErrorKind::Cancelled,
            format!("{self} did not run {}", self.call()),
        )
    }

    /// The process was ended because what it sent made no sense, or nothing could be sent to it.
    pub(crate) fn broke_off(&self, reason: &str, death: &Death) -> Error {
        let message = format!("{self} was stopped while running {}: {reason}", self.call());
        self.ended(ErrorKind::Io, message, death)
    }

    /// The process was killed, or the thread let go of, because the call took too long.
    pub(crate) fn timed_out(&self, limit: Duration, death: &Death) -> Error {
        let stopped = match death.exit.thread {
            Some(_) => "let go of",
            None => "stopped",
        };
        let message = format!(
            "{self} was {stopped}: {} took longer than {limit:?}",
            self.call()
        );
        self.ended(ErrorKind::TimedOut, message, death)
    }

    /// The call was not stopped, and took too long.
    pub(crate) fn returned_late(&self, limit: Duration, took: Duration) -> Error {
        let message = format!(
            "{self}: {} took {took:?}, longer than {limit:?}",
            self.call()
        );
        self.error(ErrorKind::TimedOut, message)
    }

    /// Results of items, from this number on.
    pub(crate) fn answers(
        &self,
        (number, is_mapped): (usize, bool),
        run: &Run,
        bundle: &Bundle,
    ) -> Answers {
        Answers {
            bundle: bundle.clone(),
            at: run.at,
            number,
            count: run.count,
            is_mapped,
            who: self.clone(),
        }
    }

    /// What a record of the worker says of the call.
    pub(crate) fn answered(self, record: &Record, reply: Reply) -> Result<Answer, Error> {
        match record.status {
            Status::Returned => Ok(Answer {
                reply,
                payload: record.payload.clone(),
                who: self,
            }),
            status => Err(self.failed(status, &reply, &record.payload)),
        }
    }

    /// Why the call came to nothing, by a record that is no result.
    pub(crate) fn failed(&self, status: Status, reply: &Reply, payload: &Range<usize>) -> Error {
        let call = self.call();
        match status {
            Status::Panicked => {
                let decoded = reply.decode(payload, |from: &mut Decoder<'_>| {
                    <(String, Option<String>, Option<String>)>::deserialize(from)
                });
                let (message, location, backtrace) = decoded.unwrap_or_else(|error| {
                    (
                        format!("(its message could not be read: {error})"),
                        None,
                        None,
                    )
                });
                let panic = Panic {
                    message,
                    location,
                    backtrace,
                };
                let message = format!("{self}: {call} {panic}");
                self.error(ErrorKind::Panicked, message).with_panic(panic)
            }
            Status::NotDecoded => {
                let reason = reply.text(payload);
                let message = format!("{self} could not decode the arguments of {call}: {reason}");
                self.error(ErrorKind::Decode, message)
            }
            Status::NotEncoded => {
                let reason = reply.text(payload);
                let message = format!("{self} could not encode the result of {call}: {reason}");
                self.error(ErrorKind::Encode, message)
            }
            Status::Refused => {
                let reason = reply.text(payload);
                let message = format!("{self}: {call} returned an error: {reason}");
                self.error(ErrorKind::Initializer, message)
            }
            Status::Returned | Status::CutShort => self.error(
                ErrorKind::Decode,
                format!("{self} answered {call} with nonsense"),
            ),
        }
    }

    fn not_decoded(&self, error: &dyn fmt::Display) -> Error {
        let message = format!(
            "the result of {} from {self} could not be decoded: {error}",
            self.call()
        );
        self.error(ErrorKind::Decode, message)
    }
}

/// The arguments could not be encoded, so that there is nobody who ran anything.
pub(crate) fn not_encoded(
    function: &'static Function,
    item: Option<usize>,
    error: &dyn fmt::Display,
) -> Error {
    let place = item.map_or(String::new(), |item| format!(" (item {item})"));
    let message = format!(
        "the arguments of `{}`{place} could not be encoded: {error}",
        function.name
    );
    Error::new(ErrorKind::Encode, message)
        .with_function(function.name)
        .with_item(item)
}

/// A worker that ended right after its start, without having done anything.
pub(crate) fn short_life(info: &ProcessInfo, death: &Death) -> Error {
    let (ProcessInfo { name, id, .. }, exit) = (info, death.exit);
    let end = match &death.given_up {
        Some(reason) => format!("was stopped right after its start: {reason}"),
        None => format!("{exit} right after its start"),
    };
    let message = format!("`{name}` (pid {id}) {end}");
    Error::new(ErrorKind::Spawn, message)
        .with_process_id(*id)
        .with_exit_status(exit.status)
        .with_stderr(death.stderr.clone())
}
