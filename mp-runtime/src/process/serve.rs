//! What a worker does all day: take calls, run them, send results.

use std::process::exit;
use std::sync::Arc;

use super::{Role, panic};
use crate::link::{Chunk, INITIALIZER_CHUNK, Status, WorkerEnd};
use crate::registry::{Call, CallError, Catalogue, Function};
use crate::wire::{Handles, Payload};

/// Runs calls until there are no more, and exits as a program does that returns from `main`.
pub(super) fn serve(mut end: WorkerEnd, catalogue: &'static Catalogue, role: Role) -> ! {
    while let Some(mut chunk) = end.next() {
        let handles = chunk.take_handles();
        if run_chunk(&mut end, catalogue, &chunk, handles).is_err() {
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
    mut handles: Option<Arc<Handles>>,
) -> std::io::Result<()> {
    let function = catalogue.function(chunk.function());
    let mut items = chunk.items().peekable();
    while let Some((item, args)) = items.next() {
        if !end.begin(chunk.number(), item) {
            break;
        }
        // While the last one runs it alone has what its handles stand for.
        let handles = match items.peek() {
            Some(_) => handles.clone(),
            None => handles.take(),
        };
        let (status, payload) = match function {
            Some(function) => {
                let call = Call::new(args, handles);
                run_item(
                    function,
                    match chunk.number() {
                        INITIALIZER_CHUNK => call.of_initializer(),
                        _ => call,
                    },
                )
            }
            None => (
                Status::NotDecoded,
                text(format!("there is no function {}", chunk.function())),
            ),
        };
        end.end(chunk.number(), item, status, &payload)?;
    }
    end.end_chunk(chunk.number())
}

fn run_item(function: &Function, mut call: Call<'_>) -> (Status, Payload) {
    let called = panic::catch(|| {
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
