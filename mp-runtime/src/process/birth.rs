//! The worker's part of a start: from the first line of `main` to the first call.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::launch::{Boot, Functions};
use super::{info, panic, serve, template};
use crate::error::{Error, ErrorKind};
use crate::link::{Lanes, WorkerEnd};
use crate::os::carrier::Carrier;
use crate::os::{descriptor, environment, exec, lifeline, limit, out_of_memory, signal};
use crate::registry::Catalogue;
use crate::sync::statics;
use crate::wire::{self, Apart, Decoder, Freight, Seat};

/// A boot message is small; a longer one is nonsense.
const BOOT_BYTES_LIMIT: u32 = 1 << 20;

/// What a process exits with that is a worker by its environment and nothing else.
const MALFORMED: i32 = 125;

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Where a worker of a test binary enters: the path of a test.
static ENTRY: Mutex<Option<&'static str>> = Mutex::new(None);

thread_local! {
    static ENTRY_OF_THREAD: std::cell::Cell<Option<&'static str>> =
        const { std::cell::Cell::new(None) };
}

/// Makes this program able to start processes of itself. Call it in the first line of `main`, or
/// write `#[mp::main]` above `main`, which does.
///
/// In the program it returns at once. In a worker, which is the same binary started again, it
/// never returns: it runs what the worker was started for, and exits. What stands before it in
/// `main` runs in every worker that is executed, and once in the one that the others are forked from
/// ([`StartMethod`](super::StartMethod)); there must be no other thread yet.
///
/// ```
/// mp::init();
/// // ... and now the program
/// ```
pub fn init() {
    become_worker_if_told();
    be_initialized();
}

pub(super) fn be_initialized() {
    INITIALIZED.store(true, Ordering::Release);
}

/// What `#[mp::test]` calls first: [`init`] for a test called `path`.
pub fn enter_test(path: &'static str) {
    // The harness names a test without its crate.
    let entry = path.split_once("::").map_or(path, |(_, rest)| rest);
    ENTRY_OF_THREAD.set(Some(entry));
    *ENTRY.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    init();
}

/// The test that workers started here enter at.
pub(super) fn entry() -> Option<&'static str> {
    let entry = || *ENTRY.lock().unwrap_or_else(PoisonError::into_inner);
    ENTRY_OF_THREAD.get().or_else(entry)
}

/// The arguments of a worker: those of this program, or those that lead a test harness straight
/// to `entry`.
pub(super) fn arguments(entry: Option<&'static str>) -> Vec<OsString> {
    match entry {
        None => std::env::args_os().skip(1).collect(),
        Some(entry) => [
            entry,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ]
        .map(OsString::from)
        .into(),
    }
}

/// Says what to add if [`init`] was not called.
pub(super) fn require_init() -> Result<(), Error> {
    if INITIALIZED.load(Ordering::Acquire) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotInitialized,
        "this program cannot start processes of itself yet: write `#[mp::main]` above `main`, or \
         `mp::init();` as its first line, and `#[mp::test]` in place of `#[test]`",
    ))
}

fn become_worker_if_told() {
    let Some(inherited) = environment::take_inherited() else {
        return;
    };
    match inherited {
        Ok([Some(lifeline), Some(lanes), Some(carrier), statics, stdout]) => {
            if let Some(statics) = statics {
                statics::inherit(statics);
            }
            if let Some(stdout) = stdout {
                // If it fails the worker's output is lost, and nothing else.
                let _ = descriptor::become_stdout(stdout);
            }
            live(Inheritance {
                lifeline,
                lanes,
                carrier,
                seat: None,
            })
        }
        Ok([Some(requests), None, None, statics, None]) => {
            if let Some(statics) = statics {
                statics::inherit(statics);
            }
            let inheritance = template::serve(requests);
            live(inheritance)
        }
        _ => {
            // Going on as the program would start the program in place of each of its workers.
            let variable = environment::WORKER_VARIABLE;
            eprintln!("mp: {variable} is set, and does not name what a worker inherits: unset it");
            std::process::exit(MALFORMED);
        }
    }
}

/// What a worker starts with.
pub(super) struct Inheritance {
    pub(super) lifeline: OwnedFd,
    pub(super) lanes: OwnedFd,
    pub(super) carrier: OwnedFd,
    /// If it was made before.
    pub(super) seat: Option<Seat>,
}

/// The rest of a worker's life: the same however it was started.
fn live(inheritance: Inheritance) -> ! {
    match read_boot(&inheritance.lifeline) {
        Ok(boot) => work(&boot, inheritance),
        // The parent is gone.
        Err(_) => signal::end_now(),
    }
}

fn read_boot(lifeline: &OwnedFd) -> io::Result<Boot> {
    let mut length = [0; 4];
    descriptor::receive_all(lifeline, &mut length)?;
    let length = u32::from_le_bytes(length);
    if length > BOOT_BYTES_LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    descriptor::receive_all(lifeline, &mut bytes)?;
    wire::decode(&bytes, Apart::Nothing, None, Decoder::value).map_err(io::Error::other)
}

/// Ends a worker that cannot work.
fn give_up(lifeline: &OwnedFd, reason: &str) -> ! {
    // If nobody reads it the parent is gone.
    let _ = descriptor::send_all(lifeline, reason.as_bytes());
    signal::end_now()
}

/// What the rest of the process does.
fn work(boot: &Boot, inheritance: Inheritance) -> ! {
    let Inheritance {
        lifeline,
        lanes,
        carrier,
        seat,
    } = inheritance;
    signal::show_name(&boot.identity.name);
    info::assume(boot.identity.clone());
    be_initialized();
    panic::install_hook();
    let ready = Lanes::attach(&lanes)
        .map_err(|error| format!("it has no lanes: {error}"))
        .and_then(|lanes| prepare(boot, &lifeline, &lanes).map(|catalogue| (lanes, catalogue)));
    match ready {
        Ok((lanes, catalogue)) => {
            // It is to stay open for as long as this process lives.
            std::mem::forget(lifeline);
            let freight = Freight::over(Carrier::of(carrier));
            let end = WorkerEnd::arrive(seat, lanes, freight);
            serve::serve(end, catalogue, boot.role)
        }
        Err(reason) => give_up(&lifeline, &reason),
    }
}

fn prepare(boot: &Boot, lifeline: &OwnedFd, lanes: &Lanes) -> Result<&'static Catalogue, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    signal::obey_deliberate_interrupts_only().map_err(failed("it could not set up SIGINT"))?;
    end_with_parent(boot.parent_id, lifeline).map_err(failed("it could not watch its parent"))?;
    if let Some(cpus) = &boot.cpus {
        limit::pin(cpus)
            .map_err(|error| format!("it cannot be bound to the processors {cpus:?}: {error}"))?;
    }
    if let Some(bytes) = boot.memory_limit {
        let lanes = lanes.clone();
        out_of_memory::notice(move || lanes.set_out_of_memory())
            .map_err(failed("it could not set up SIGABRT"))?;
        limit::limit_memory(bytes).map_err(failed("its memory could not be limited"))?;
    }
    let catalogue = Catalogue::get().map_err(|error| error.to_string())?;
    check_functions(boot.functions, catalogue)?;
    statics::to_hand_down()?;
    Ok(catalogue)
}

/// Whether this binary has the functions of its parent.
fn check_functions(parents: Functions, catalogue: &Catalogue) -> Result<(), String> {
    let own = Functions::of(catalogue);
    match own == parents {
        true => Ok(()),
        false => Err(format!(
            "its binary differs from this one: it has {} process functions and the fingerprint \
             {:016x}, here are {} and {:016x}; start the program again after a build",
            own.count, own.fingerprint, parents.count, parents.fingerprint,
        )),
    }
}

/// Has this process killed when its parent has ended.
fn end_with_parent(parent_id: u32, lifeline: &OwnedFd) -> io::Result<()> {
    let parent = nix::unistd::Pid::from_raw(parent_id.cast_signed());
    if exec::die_with(parent).is_err() {
        signal::end_now();
    }
    lifeline::end_with(lifeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_whose_binary_differs_gives_up_with_a_sentence() {
        let catalogue = Catalogue::get().expect("no two functions have one name");
        let same = Functions::of(catalogue);
        assert_eq!(check_functions(same, catalogue), Ok(()));
        let other = Functions {
            fingerprint: same.fingerprint ^ 1,
            ..same
        };
        let reason = check_functions(other, catalogue).expect_err("it differs");
        assert!(
            reason.contains("its binary differs from this one"),
            "{reason}"
        );
    }
}
