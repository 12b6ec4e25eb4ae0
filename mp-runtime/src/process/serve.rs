//! What a worker does all day, be it a process, a thread, or the thread that calls: take calls, run
//! them, send results.

use std::io;
use std::process::exit;
use std::sync::Arc;

use super::info::AsWorker;
use super::{ProcessInfo, Role, panic};
use crate::link::{CallHead, Chunk, Parts, Record, Reply, Status, WorkerEnd};
use crate::registry::{Call, CallError, Catalogue, Function, Items, Source};
use crate::wire::{Encoder, Handles, Payload};

/// Memory that a result was written into is kept for the next one up to this size.
const KEPT_BYTES: usize = 64 << 10;

/// Runs calls until there are no more, and exits as a program does that returns from `main`.
pub(super) fn serve(mut end: WorkerEnd, catalogue: &'static Catalogue, role: Role) -> ! {
    run_calls(&mut end, catalogue, role);
    exit(0)
}

/// Runs calls until there are no more.
pub(super) fn run_calls(end: &mut WorkerEnd, catalogue: &'static Catalogue, role: Role) {
    let mut output = end.encoder();
    while let Some(chunk) = end.next() {
        let Ok(kept) = run_chunk(end, catalogue, chunk, output) else {
            // The parent is gone, and the lifeline's thread is about to end this process; or this
            // is a thread that was let go of.
            break;
        };
        if role == Role::Once {
            break;
        }
        output = kept;
    }
    end.finish();
}

/// Runs one item on this thread, as worker `info`, in the way any worker does. The function may
/// come back to this.
pub(crate) fn run_here(
    info: &Arc<ProcessInfo>,
    function: &Function,
    is_initializer: bool,
    args: &[u8],
    handles: Option<Arc<Handles>>,
) -> (Record, Reply) {
    panic::install_hook();
    let _worker = AsWorker::begin(info);
    let mut item = Here {
        item: Some((args, handles)),
        outcome: None,
    };
    let mut call = Call::new(&[], Encoder::default(), is_initializer);
    run_items(function, &mut item, &mut call, Here::panicked);
    let (status, mut payload) = item
        .outcome
        .unwrap_or((Status::CutShort, Payload::default()));
    let record = Record {
        status,
        is_last: true,
        payload: 0..payload.bytes.len(),
    };
    (record, Reply::new(&mut payload.bytes, payload.handles))
}

/// Runs all items of a call; gives what results of the next one are written into.
fn run_chunk(
    end: &mut WorkerEnd,
    catalogue: &'static Catalogue,
    chunk: Chunk,
    output: Encoder,
) -> io::Result<Encoder> {
    let head = chunk.head();
    let mut call = Call::new(chunk.bulks(), output, head.is_initializer);
    let mut round = Round {
        end,
        head,
        items: chunk.items(),
        next_place: 0,
        is_cut_short: false,
        sent: Ok(()),
    };
    match catalogue.function(head.function) {
        Some(function) => run_items(function, &mut round, &mut call, Round::panicked),
        None => {
            let reason = format!("there is no function {}", head.function);
            let mut items = Items::new(&mut round, &mut call);
            items.each(|_| Err(CallError::NoFunction(reason.clone())));
        }
    }
    let Round {
        is_cut_short, sent, ..
    } = round;
    let mut output = call.into_output();
    if output.capacity() > KEPT_BYTES {
        output = end.encoder();
    }
    sent?;
    end.end_call(chunk, is_cut_short)?;
    Ok(output)
}

/// Runs all items, those behind one that panics as well.
fn run_items<'m, S: Source<'m>>(
    function: &Function,
    source: &mut S,
    call: &mut Call<'m>,
    panicked: fn(&mut S, &mut Call<'m>, Payload),
) {
    while let Err(panic) = panic::catch(|| (function.run)(&mut Items::new(source, call))) {
        let parts = (panic.message, panic.location, panic.backtrace);
        let payload = Payload::encode(|to| to.value(&parts));
        panicked(source, call, payload.unwrap_or_default());
    }
}

/// The items of a call that came to this worker.
struct Round<'e, 'm> {
    end: &'e mut WorkerEnd,
    head: CallHead,
    items: Parts<'m>,
    /// The place of the item that comes next; the one before it is running, or has ended.
    next_place: u32,
    is_cut_short: bool,
    /// Whether there is still a parent that wants results.
    sent: io::Result<()>,
}

impl<'m> Round<'_, 'm> {
    fn is_last(&self) -> bool {
        self.next_place == self.head.count
    }

    #[cold]
    fn fail(&mut self, call: &mut Call<'m>, status: Status, payload: Payload) {
        // What it has written by then, and the handles in that, are nobody's.
        call.renew(self.end.encoder());
        if self.sent.is_ok() {
            self.sent = self.end.end(self.head, self.is_last(), status, payload);
        }
    }

    fn panicked(&mut self, call: &mut Call<'m>, payload: Payload) {
        self.fail(call, Status::Panicked, payload);
    }
}

impl<'m> Source<'m> for Round<'_, 'm> {
    fn next(&mut self, call: &mut Call<'m>) -> bool {
        match call.result() {
            None => {}
            Some(Ok(output)) => {
                let is_last = self.is_last();
                self.sent = self.end.end_returned(self.head, is_last, output);
                output.clear();
            }
            Some(Err(error)) => self.failed(call, CallError::Encode(error)),
        }
        if self.sent.is_err() || self.is_cut_short {
            return false;
        }
        let Some(input) = self.items.next() else {
            return false;
        };
        if !self.end.begin(self.head, self.next_place) {
            self.is_cut_short = true;
            return false;
        }
        self.next_place += 1;
        // While the last one runs it alone has what its handles stand for.
        call.begin(input, self.end.handles(self.is_last()));
        true
    }

    fn failed(&mut self, call: &mut Call<'m>, error: CallError) {
        let (status, payload) = told(error);
        self.fail(call, status, payload);
    }
}

/// The only item, of whoever waits for it on this thread.
struct Here<'m> {
    item: Option<(&'m [u8], Option<Arc<Handles>>)>,
    outcome: Option<(Status, Payload)>,
}

impl<'m> Here<'m> {
    fn panicked(&mut self, _: &mut Call<'m>, payload: Payload) {
        self.outcome = Some((Status::Panicked, payload));
    }
}

impl<'m> Source<'m> for Here<'m> {
    fn next(&mut self, call: &mut Call<'m>) -> bool {
        if let Some(result) = call.result() {
            self.outcome = Some(match result.and_then(Encoder::take) {
                Ok(payload) => (Status::Returned, payload),
                Err(error) => told(CallError::Encode(error)),
            });
        }
        let Some((args, handles)) = self.item.take() else {
            return false;
        };
        call.begin(args, handles);
        true
    }

    fn failed(&mut self, _: &mut Call<'m>, error: CallError) {
        self.outcome = Some(told(error));
    }
}

/// What kept a function from returning a result.
fn told(error: CallError) -> (Status, Payload) {
    let (status, reason) = match error {
        CallError::Decode(error) => (Status::NotDecoded, error.to_string()),
        CallError::NoFunction(reason) => (Status::NotDecoded, reason),
        CallError::Encode(error) => (Status::NotEncoded, error.to_string()),
        CallError::Refused(reason) => (Status::Refused, reason),
    };
    let bytes = reason.into_bytes();
    let handles = None;
    (status, Payload { bytes, handles })
}
