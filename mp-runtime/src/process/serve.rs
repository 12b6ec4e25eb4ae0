//! What a worker does all day: take calls, run them, send results.

use std::process::exit;

use super::{Role, panic};
use crate::link::{Chunk, Status, WorkerEnd};
use crate::registry::{Call, CallError, Catalogue, Function};
use crate::wire::{Handles, Payload};

/// Runs calls until there are no more, and exits as a program does that returns from `main`.
pub(super) fn serve(mut end: WorkerEnd, catalogue: &'static Catalogue, role: Role) -> ! {
    while let Some(chunk) = end.next() {
        if run_chunk(&mut end, catalogue, &chunk).is_err() {
            // The parent is gone; the lifeline's thread is about to end this process.
            break;
        }
        if role == Role::Once {
            break;
        }
    }
    exit(0)
}

fn run_chunk(
    end: &mut WorkerEnd,
    catalogue: &'static Catalogue,
    chunk: &Chunk,
) -> std::io::Result<()> {
    let function = catalogue.function(chunk.function());
    for (item, args) in chunk.items() {
        if !end.begin(chunk.number(), item) {
            break;
        }
        let (status, payload) = match function {
            Some(function) => run_item(function, args, chunk.handles()),
            None => (
                Status::NotDecoded,
                text(format!("there is no function {}", chunk.function())),
            ),
        };
        end.end(chunk.number(), item, status, &payload)?;
    }
    end.end_chunk(chunk.number())
}

fn run_item(function: &Function, args: &[u8], handles: Option<&Handles>) -> (Status, Payload) {
    let called = panic::catch(|| {
        let mut call = Call::new(args, handles);
        (function.run)(&mut call)?;
        call.into_output()
    });
    match called {
        Ok(Ok(output)) => (Status::Returned, output),
        Ok(Err(CallError::Decode(error))) => (Status::NotDecoded, text(error.to_string())),
        Ok(Err(CallError::Encode(error))) => (Status::NotEncoded, text(error.to_string())),
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
