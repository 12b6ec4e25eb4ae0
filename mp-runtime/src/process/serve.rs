//! What a worker does all day, be it a process, a thread, or the thread that calls: take calls, run
//! them, send results.

use std::process::exit;
use std::sync::Arc;

use super::info::AsWorker;
use super::{ProcessInfo, Role, panic};
use crate::link::{Chunk, INITIALIZER_CHUNK, Record, Reply, Status, WorkerEnd};
use crate::registry::{Call, CallError, Catalogue, Function};
use crate::wire::{Handles, Payload};

/// Runs calls until there are no more, and exits as a program does that returns from `main`.
pub(super) fn serve(mut end: WorkerEnd, catalogue: &'static Catalogue, role: Role) -> ! {
    run_calls(&mut end, catalogue, role);
    exit(0)
}

/// Runs calls until there are no more.
pub(super) fn run_calls(end: &mut WorkerEnd, catalogue: &'static Catalogue, role: Role) {
    while let Some(chunk) = end.next() {
        if run_chunk(end, catalogue, &chunk).is_err() {
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
    (chunk, item): (u64, u64),
    args: &[u8],
    handles: Option<Arc<Handles>>,
) -> (Record, Reply) {
    panic::install_hook();
    let _worker = AsWorker::begin(info);
    let (status, payload) = run_item(function, chunk, args, handles);
    let record = Record {
        chunk,
        item,
        status,
        payload: 0..payload.bytes.len(),
    };
    (record, Reply::new(payload.bytes, payload.handles))
}

fn run_chunk(
    end: &mut WorkerEnd,
    catalogue: &'static Catalogue,
    chunk: &Chunk,
) -> std::io::Result<()> {
    let function = catalogue.function(chunk.function());
    let mut items = chunk.items().peekable();
    while let Some((item, args)) = items.next() {
        if !end.begin(chunk.number(), item) {
            break;
        }
        // While the last one runs it alone has what its handles stand for.
        let handles = end.handles(items.peek().is_none());
        let (status, payload) = match function {
            Some(function) => run_item(function, chunk.number(), args, handles),
            None => (
                Status::NotDecoded,
                text(format!("there is no function {}", chunk.function())),
            ),
        };
        end.end(chunk.number(), item, status, payload)?;
    }
    end.end_chunk(chunk.number())
}

fn run_item(
    function: &Function,
    chunk: u64,
    args: &[u8],
    handles: Option<Arc<Handles>>,
) -> (Status, Payload) {
    let called = panic::catch(|| {
        let call = Call::new(args, handles);
        let mut call = match chunk {
            INITIALIZER_CHUNK => call.of_initializer(),
            _ => call,
        };
        (function.run)(&mut call)?;
        call.into_output()
    });
    match called {
        Ok(Ok(output)) => (Status::Returned, output),
        Ok(Err(CallError::Decode(error))) => (Status::NotDecoded, text(error.to_string())),
        Ok(Err(CallError::Encode(error))) => (Status::NotEncoded, text(error.to_string())),
        Ok(Err(CallError::Refused(reason))) => (Status::Refused, text(reason)),
        Err(panic) => {
            let parts = (panic.message, panic.location, panic.backtrace);
            let payload = Payload::encode(|to| to.value(&parts));
            (Status::Panicked, payload.unwrap_or_default())
        }
    }
}

fn text(reason: String) -> Payload {
    Payload {
        bytes: reason.into_bytes(),
        handles: None,
    }
}
