//! Counts the words of files: `cargo run --release --example wordcount [PATH…]`, or of this project.

use std::collections::HashMap;
use std::{cmp::Reverse, env, ffi::OsString, fs, path::PathBuf, time::Instant};

use mp::prelude::*;
type Words = HashMap<String, u64>;

/// The limit is for a FIFO, or `/dev/zero`. An `OsString` travels whatever its bytes are.
#[mp::process_fn(timeout = "5s")]
fn count(path: OsString) -> Result<Words, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut words = Words::new();
    for word in text.split(|c: char| !c.is_alphabetic()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    words.remove("");
    Ok(words)
}

// What cannot be listed is a file, or counting its words will tell why.
fn find(path: PathBuf, suffix: &str, files: &mut Vec<OsString>) {
    match fs::read_dir(&path).map(Iterator::flatten) {
        Ok(_) if path.is_symlink() || path.ends_with("target") => {}
        Ok(list) => list.for_each(|entry| find(entry.path(), suffix, files)),
        Err(_) if !path.to_string_lossy().ends_with(suffix) => {}
        Err(_) => files.push(path.into()),
    }
}

#[mp::main]
fn main() -> Result<(), Error> {
    let (mut files, mut total) = (Vec::new(), Words::new());
    let paths = env::args_os().skip(1).map(PathBuf::from);
    paths.for_each(|path| find(path, "", &mut files));
    if env::args_os().len() == 1 {
        find(env!("CARGO_MANIFEST_DIR").into(), ".rs", &mut files);
    }
    for workers in [1, mp::cpu_count()] {
        let (pool, start) = (Pool::new(workers)?, Instant::now());
        total = Words::new();
        for (index, result) in pool.imap_unordered(count, files.clone()) {
            let words = result.unwrap_or_else(|error| Err(error.to_string()));
            if let Err(reason) = &words {
                println!("not counted: {}: {reason}", files[index].display());
            }
            for (word, n) in words.into_iter().flatten() {
                *total.entry(word).or_default() += n;
            }
        }
        println!("by {workers} workers: {:.1?}", start.elapsed());
    }
    let mut words = Vec::from_iter(total);
    words.sort_by_key(|&(_, n)| Reverse(n));
    for (word, n) in words.iter().take(20) {
        println!("{n:8} {word}");
    }
    Ok(())
}
