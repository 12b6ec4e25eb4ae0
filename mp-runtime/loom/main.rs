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
//! A name on the command line runs the models whose names contain it.

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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

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
    if has("--list") {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, model) in chosen {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(model));
        failed += u32::from(result.is_err());
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        let order_count = models::ORDER_COUNT.swap(0, Ordering::Relaxed);
        let time = begin.elapsed();
        println!("model {name} ... {verdict}, {order_count} orders, {time:.1?}");
    }
    ExitCode::from(u8::from(failed > 0))
}
