//! Make a number with a lock in memory that processes share: one that goes again, and many that
//! stay. Against an `Arc` of this process alone, and against the calls for memory of its own.
//!
//! It prints how many descriptors and mappings the many take. What takes neither makes no system
//! call: under `strace -f -c`, a program that makes 100,000 has about 160 more than one that makes
//! a single one.

mod measure;

use std::fs;
use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use measure::{Contest, Failure, size};
use mp::Value;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

fn many<T, E>(count: usize, make: impl Fn() -> Result<T, E>) -> Result<Vec<T>, E> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(make()?);
    }
    Ok(values)
}

fn make() -> Result<Value<u64>, mp::Error> {
    mp::shared!(black_box(0))
}

fn make_private() -> Result<Arc<Mutex<u64>>, Failure> {
    Ok(Arc::new(Mutex::new(black_box(0))))
}

/// A page of shared memory: made, sized, mapped, and all of it undone.
fn make_page() -> Result<(), Failure> {
    const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
    let file = memfd_create(c"bench", MFdFlags::MFD_CLOEXEC)?;
    ftruncate(&file, 4096)?;
    measure::page::map_and_unmap(&file, PAGE_BYTES)
}

/// How many descriptors this process has, and how many mappings.
fn held() -> io::Result<(usize, usize)> {
    let descriptors = fs::read_dir("/proc/self/fd")?.count();
    let mappings = fs::read_to_string("/proc/self/maps")?.lines().count();
    Ok((descriptors, mappings))
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();

    let times = size(100_000, 1000);
    let mut one = Contest::new("make a number with a lock, and drop it", times);
    one.enter("mp::shared!(0)?", || {
        for _ in 0..times {
            make()?;
        }
        Ok(())
    });
    one.enter("Arc::new(Mutex::new(0)), of one process", || {
        for _ in 0..times {
            black_box(make_private()?);
        }
        Ok(())
    });
    one.enter("raw: a memory file of a page, mapped", || {
        (0..times).try_for_each(|_| make_page())
    });
    one.run(15, "make_value.py", &[times / 10, 0])?;

    let (descriptors, mappings) = held()?;
    let values = many(times, make)?;
    let (more_descriptors, more_mappings) = held()?;
    let title = format!("make {times} of them that stay, drop them all: each");
    let mut all = Contest::new(title, times);
    all.note(format!(
        "{} take {} descriptors and {} mappings",
        values.len(),
        more_descriptors - descriptors,
        more_mappings - mappings
    ));
    drop(values);
    all.enter("mp::shared!(0)?", || {
        black_box(many(times, make)?);
        Ok(())
    });
    all.enter("Arc::new(Mutex::new(0)), of one process", || {
        black_box(many(times, make_private)?);
        Ok(())
    });
    all.run(15, "make_value.py", &[times / 10, 1])
}
