//! What a worker does all day, be it a process, a thread, or the thread that calls: take calls, run
//! them, send results.

use std::process::exit;
use std::sync::Arc;

use super::info::AsWorker;
use super::{ProcessInfo, Role, panic};
use crate::link::{Chunk, Record, Reply, Status, WorkerEnd};
use crate::registry::{Call, CallError, Catalogue, Function};
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
    let mut encoder = None;
    while let Some(chunk) = end.next() {
        if run_chunk(end, catalogue, chunk, &mut encoder).is_err() {
            // The parent is gone, and the lifeline's thread is about to end this process; or this
            // is a thread that was let go of.
            break;
        }
        if role == Role::Once {
            break;
        }
    }
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
    let call = Call::new((args, &[]), handles, Box::default(), is_initializer);
    let (status, payload) = match run_item(function, call) {
        Ok(mut output) => match output.take() {
            Ok(payload) => (Status::Returned, payload),
            Err(error) => (Status::NotEncoded, text(error.to_string())),
        },
        Err(failed) => failed,
    };
    let record = Record {
        status,
        is_last: true,
        payload: 0..payload.bytes.len(),
    };
    (record, Reply::new(payload.bytes, payload.handles))
}

fn run_chunk(
    end: &mut WorkerEnd,
    catalogue: &'static Catalogue,
    chunk: Chunk,
    encoder: &mut Option<Box<Encoder>>,
) -> std::io::Result<()> {
    let head = chunk.head();
    let function = catalogue.function(head.function);
    let mut items = chunk.items().enumerate().peekable();
    let mut is_cut_short = false;
    while let Some((place, args)) = items.next() {
        if !end.begin(head, place) {
            is_cut_short = true;
            break;
        }
        // While the last one runs it alone has what its handles stand for.
        let is_last = items.peek().is_none();
        let handles = end.handles(is_last);
        let outcome = match function {
            Some(function) => {
                let output = encoder.take();
                let output = output.unwrap_or_else(|| Box::new(end.encoder()));
                run_item(
                    function,
                    Call::new((args, chunk.bulks()), handles, output, head.is_initializer),
                )
            }
            None => Err((
                Status::NotDecoded,
                text(format!("there is no function {}", head.function)),
            )),
        };
        match outcome {
            Ok(mut output) => {
                end.end_returned(head, is_last, &mut output)?;
                if output.capacity() <= KEPT_BYTES {
                    output.clear();
                    *encoder = Some(output);
                }
            }
            Err((status, payload)) => end.end(head, is_last, status, payload)?,
        }
    }
    drop(items);
    end.end_call(chunk, is_cut_short)
}

/// Gives the result, or what kept the function from returning one.
#[inline]
fn run_item(function: &Function, mut call: Call<'_>) -> Result<Box<Encoder>, (Status, Payload)> {
    let called = panic::catch(move || {
        (function.run)(&mut call)?;
        call.into_output()
    });
    Err(match called {
        Ok(Ok(output)) => return Ok(output),
        Ok(Err(CallError::Decode(error))) => (Status::NotDecoded, text(error.to_string())),
        Ok(Err(CallError::Encode(error))) => (Status::NotEncoded, text(error.to_string())),
        Ok(Err(CallError::Refused(reason))) => (Status::Refused, text(reason)),
        Err(panic) => {
            let parts = (panic.message, panic.location, panic.backtrace);
            let payload = Payload::encode(|to| to.value(&parts));
            (Status::Panicked, payload.unwrap_or_default())
        }
    })
}

fn text(reason: String) -> Payload {
    Payload {
        bytes: reason.into_bytes(),
        handles: None,
    }
}
