//! Models of the primitives of `sync`, of the rings of `channel`, and of those of `link` with their bells: loom runs each through all orders of its steps, up to a
//! bound of preemptions, and through all values that the memory model lets a load see.
//!
//! The sources are compiled here once more, word for word, over atomics, futexes, names, memory and a
//! clock that loom knows of. What differs:
//!
//! - tables have two slots, and nobody spins before it sleeps (`sync/bounds.rs`);
//! - a ring has eight units, of which three are there at the beginning (`channel/bounds.rs`). Its
//!   memory tells of units that are used without being there, and of bytes that are written while
//!   somebody else looks (`shm/expanse.rs`);
//! - the rings of links are of a few bytes (`link/models.rs`), in memory that tells of the same
//!   (`os/shared_page.rs`);
//! - a `SeqCst` access is modelled as one between two fences, since loom takes it for `AcqRel`
//!   (`sync/atomic.rs`). That is somewhat stronger than the language says, and what both processors do;
//! - a futex is one of two: it wakes at once, as if a slice had passed, which is how the living
//!   get by the dead; or it wakes when somebody wakes it and never otherwise, so that a wake-up
//!   that gets lost is a deadlock, which loom reports (`os/futex.rs`);
//! - a thread can be made to die before any of its accesses (`os/identity.rs`).
//!
//! A name on the command line runs the models whose names contain it, each in a process of its own,
//! as many at once as there are processors: what stands for the machine is one for all threads.

#![expect(
    unsafe_code,
    reason = "the sources have it, and the cells of loom are accessed by pointer"
)]

#[allow(dead_code, unreachable_pub, reason = "the models need some of it")]
#[path = "../src/error.rs"]
mod error;
mod os;
mod shm;
mod sync;
mod channel;
mod link;
mod models;

use std::io::{Write as _, stderr, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use models::Model;

/// What the harness of ordinary tests does with its arguments, as far as tools rely on it.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|part| match has("--exact") {
                true => name == part.as_str(),
                false => name.contains(part.as_str()),
            })
    };
    let is_chosen = |name: &str| {
        has("--ignored") == models::FAILING.contains(&name) || has("--include-ignored")
    };
    let chosen = models::all().filter(|(name, _)| is_wanted(name) && is_chosen(name));
    let chosen: Vec<&Model> = chosen.collect();
    if has("--list") {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let is_passed = match has("--exact") {
        true => chosen.into_iter().all(run),
        false => run_apart(&chosen),
    };
    ExitCode::from(u8::from(!is_passed))
}

/// Runs a model here, and tells whether it passed.
fn run((name, model): &Model) -> bool {
    let begin = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(model));
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    let order_count = models::ORDER_COUNT.swap(0, Ordering::Relaxed);
    let time = begin.elapsed();
    println!("model {name} ... {verdict}, {order_count} orders, {time:.1?}");
    result.is_ok()
}

/// Runs each model in a process of its own, and tells whether all passed.
fn run_apart(models: &[&Model]) -> bool {
    let own = std::env::current_exe().expect("this program has a path");
    let passed_count = AtomicUsize::new(0);
    let rest = Mutex::new(models.iter());
    let next = || rest.lock().expect("nobody panics with it").next();
    let work = || {
        while let Some((name, _)) = next() {
            let mut model = Command::new(&own);
            model.args([name, "--exact", "--include-ignored"]);
            let output = model.output().expect("this program can be started");
            // If nobody reads it, the exit code still tells.
            let _ = stderr().write_all(&output.stderr);
            let _ = stdout().write_all(&output.stdout);
            if output.status.success() {
                passed_count.fetch_add(1, Ordering::Relaxed);
            } else {
                eprintln!("model {name} ended with {}", output.status);
            }
        }
    };
    let processor_count = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processor_count {
            scope.spawn(work);
        }
    });
    passed_count.into_inner() == models.len()
}
