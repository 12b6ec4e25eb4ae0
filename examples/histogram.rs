//! Counts which bytes a file has: `cargo run --release --example histogram [FILE]`, or `Cargo.lock`.
//! The workers read parts of it, and bring their counts together in three ways.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{cmp::Reverse, env, ffi::OsString, fs::File, ops::Range, time::Instant};

use mp::prelude::*;

const BLOCK_BYTES: u64 = 1 << 20;

mp::shared! {
    static COUNTS: [u64; 256] = [0; 256];
}

fn count(path: &OsString, part: Range<u64>, counts: &mut [u64]) -> Result<(), String> {
    let name = |error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(name)?;
    let mut block = vec![0; BLOCK_BYTES.min(part.end - part.start) as usize];
    for start in part.clone().step_by(BLOCK_BYTES as usize) {
        block.truncate((part.end - start) as usize);
        file.read_exact_at(&mut block, start).map_err(name)?;
        block.iter().for_each(|&byte| counts[byte as usize] += 1);
    }
    Ok(())
}

/// A static that every process has, and its lock.
#[mp::process_fn]
fn into_static(path: OsString, part: Range<u64>) -> Result<(), String> {
    let mut own = [0; 256];
    count(&path, part, &mut own)?;
    let add = |all: &mut [u64; 256]| all.iter_mut().zip(own).for_each(|(all, n)| *all += n);
    COUNTS.update(add).map_err(|error| error.to_string())
}

/// Atomics, which need no lock.
#[mp::process_fn]
fn into_atomics(
    path: OsString,
    part: Range<u64>,
    all: Shared<[AtomicU64; 256]>,
) -> Result<(), String> {
    let mut own = [0; 256];
    count(&path, part, &mut own)?;
    for (all, n) in all.iter().zip(own) {
        all.fetch_add(n, Ordering::Relaxed);
    }
    Ok(())
}

/// A chunk of an array, which is this worker's alone while it has it.
#[mp::process_fn]
fn into_chunk(path: OsString, part: Range<u64>, mut own: ArrayChunk<u64>) -> Result<(), String> {
    count(&path, part, &mut own)
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn timed(name: &str, run: impl FnOnce() -> Outcome<Vec<u64>>) -> Outcome<Vec<u64>> {
    let start = Instant::now();
    let counts = run()?;
    println!("{name:>8}: {:.1?}", start.elapsed());
    Ok(counts)
}

/// The first error, if there is one.
fn all(results: Vec<Result<(), String>>) -> Result<(), String> {
    results.into_iter().collect()
}

#[mp::main]
fn main() -> Outcome<()> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let path = env::args_os().nth(1).unwrap_or(default.into());
    let bytes = std::fs::metadata(&path)?.len();
    let workers = mp::cpu_count();
    let pool = Pool::new(workers)?;
    // A path and a part for each worker.
    let cut = |worker| bytes * worker as u64 / workers as u64;
    let parts = || (0..workers).map(|n| (path.clone(), cut(n)..cut(n + 1)));

    let mut alone = vec![0; 256];
    count(&path, 0..bytes, &mut alone)?; // and now the file is in memory
    let statics = timed("static", || {
        all(pool.starmap(into_static, parts())?)?;
        Ok(COUNTS.get()?.to_vec())
    })?;
    let atomics = timed("atomics", || {
        let counts = Shared::new([const { AtomicU64::new(0) }; 256])?;
        let parts = parts().map(|(path, part)| (path, part, counts.clone()));
        all(pool.starmap(into_atomics, parts)?)?;
        Ok(counts.iter().map(|n| n.load(Ordering::Relaxed)).collect())
    })?;
    let chunks = timed("chunks", || {
        let rows = Array::zeroed(256 * workers)?;
        let parts = parts().zip(rows.split(workers));
        let parts = parts.map(|((path, part), own)| (path, part, own));
        all(pool.starmap(into_chunk, parts)?)?;
        let column = |rows: &[u64], byte| rows.chunks(256).map(|row| row[byte]).sum();
        // Taking the lock waits until no worker has a chunk.
        let counts = rows.update(|rows| (0..256).map(|byte| column(rows, byte)).collect())?;
        Ok(counts)
    })?;

    println!("{bytes} bytes, counted by {workers} workers; the most frequent:");
    println!("  byte     static    atomics     chunks");
    let mut order = Vec::from_iter(0..=255_u8);
    order.sort_by_key(|&byte| Reverse(alone[byte as usize]));
    for byte in order.into_iter().take(12) {
        let index = byte as usize;
        let shown = byte.escape_ascii().to_string();
        println!(
            "{shown:>6} {:10} {:10} {:10}",
            statics[index], atomics[index], chunks[index]
        );
    }
    let agree = [statics, atomics, chunks]
        .iter()
        .all(|counts| *counts == alone);
    println!("the three {}", if agree { "agree" } else { "differ" });
    Ok(())
}
