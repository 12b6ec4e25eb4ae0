//! The worker's part of a start: from the first line of `main` to the first call.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::launch::Boot;
use super::{info, panic, serve};
use crate::error::{Error, ErrorKind};
use crate::link::{Greeting, Lanes, WorkerEnd};
use crate::os::carrier::Carrier;
use crate::os::{self, descriptor, environment, limit, out_of_memory, pidfd::PidFd, signal};
use crate::registry::Catalogue;
use crate::sync::statics;
use crate::wire::{self, Apart, Decoder, Freight};

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
/// `main` runs in every worker, and there must be no other thread yet.
///
/// ```
/// mp::init();
/// // ... and now the program
/// ```
pub fn init() {
    become_worker_if_told();
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
    let Ok(
        [
            Some(lifeline),
            Some(lanes),
            Some(anchor),
            Some(carrier),
            statics,
            stdout,
        ],
    ) = inherited
    else {
        // Going on as the program would start the program in place of each of its workers.
        let variable = environment::WORKER_VARIABLE;
        eprintln!("mp: {variable} is set, and does not name what a worker inherits: unset it");
        std::process::exit(MALFORMED);
    };
    if let Some(statics) = statics {
        statics::inherit(statics);
    }
    if let Some(stdout) = stdout {
        // If it fails the worker's output is lost, and nothing else.
        let _ = descriptor::become_stdout(stdout);
    }
    let Ok((boot, lifeline)) = read_boot(lifeline) else {
        // The parent is gone.
        signal::end_now();
    };
    let inheritance = Inheritance {
        lifeline: Arc::new(lifeline),
        lanes,
        anchor,
        freight: Freight::over(Carrier::of(carrier)),
    };
    work(boot, inheritance)
}

/// What a worker starts with.
struct Inheritance {
    lifeline: Arc<OwnedFd>,
    lanes: OwnedFd,
    anchor: OwnedFd,
    freight: Freight,
}

fn read_boot(lifeline: OwnedFd) -> io::Result<(Boot, OwnedFd)> {
    let mut stream = std::fs::File::from(lifeline);
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > BOOT_BYTES_LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    let boot =
        wire::decode(&bytes, Apart::Nothing, None, Decoder::value).map_err(io::Error::other)?;
    Ok((boot, stream.into()))
}

/// Ends a worker that cannot even say so in its greeting.
fn give_up(lifeline: &OwnedFd, reason: &io::Error) -> ! {
    // If nobody reads it the parent is gone.
    let _ = descriptor::send_all(lifeline, format!("it gave up: {reason}").as_bytes());
    signal::end_now()
}

/// What the rest of the process does.
fn work(boot: Boot, inheritance: Inheritance) -> ! {
    let Inheritance {
        lifeline,
        lanes,
        anchor,
        freight,
    } = inheritance;
    signal::show_name(&boot.identity.name);
    info::assume(boot.identity.clone());
    INITIALIZED.store(true, Ordering::Release);
    panic::install_hook();
    let lanes = match Lanes::attach(&lanes) {
        Ok(lanes) => lanes,
        Err(error) => give_up(&lifeline, &error),
    };
    let prepared = prepare(&boot, Arc::clone(&lifeline), &lanes);
    let catalogue = Catalogue::get();
    let failure = match (&catalogue, prepared) {
        (Err(error), _) => Some(error.to_string()),
        (Ok(_), Err(failure)) => Some(failure),
        (Ok(_), Ok(())) => statics::to_hand_down().err(),
    };
    let greeting = Greeting {
        fingerprint: catalogue
            .as_ref()
            .map_or(0, |catalogue| catalogue.fingerprint()),
        function_count: catalogue
            .as_ref()
            .map_or(0, |catalogue| catalogue.len() as u64),
        failure,
    };
    match (
        WorkerEnd::introduce(anchor, boot.token, greeting, lanes, freight),
        catalogue,
    ) {
        (Ok(end), Ok(catalogue)) => serve::serve(end, catalogue, boot.role),
        (Err(error), _) => give_up(&lifeline, &error),
        // It said so in its greeting.
        (Ok(_), Err(_)) => signal::end_now(),
    }
}

fn prepare(boot: &Boot, lifeline: Arc<OwnedFd>, lanes: &Lanes) -> Result<(), String> {
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
    Ok(())
}

/// Starts the thread that kills this process when its parent has ended.
fn end_with_parent(parent_id: u32, lifeline: Arc<OwnedFd>) -> io::Result<()> {
    // If the parent has ended already its id may be somebody else's: then it is not our parent,
    // and the lifeline says so at once.
    let parent = match PidFd::open(parent_id) {
        Ok(parent) if std::os::unix::process::parent_id() == parent_id => Some(parent),
        _ => None,
    };
    os::thread::spawn("mp-lifeline", move || {
        let mut fds = vec![lifeline.as_fd()];
        fds.extend(parent.as_ref().map(PidFd::as_fd));
        // Nothing is ever written: readable means closed. Without either there is no knowing.
        let _ = descriptor::wait_readable(&fds);
        signal::end_now();
    })?;
    Ok(())
}
