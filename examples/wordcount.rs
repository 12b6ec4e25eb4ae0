//! Counts the words of every text file below some paths, over a pool: `cargo run --release --example
//! wordcount [PATH…]`. Without a path it reads the Rust sources of this project.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mp::prelude::*;

type Words = HashMap<String, u64>;

/// The limit is for files without an end, `/dev/zero` say. An `OsString` travels whatever bytes the
/// name of a file is made of; a `PathBuf` would have to be UTF-8.
#[mp::process_fn(timeout = "10s")]
fn count(path: OsString) -> Result<Words, String> {
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let mut words = Words::new();
    let separates = |c: char| !c.is_alphanumeric();
    for word in text.split(separates).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok(words)
}

/// Collects files; what cannot be listed as a directory is one, and counting it will tell.
fn walk(path: PathBuf, wanted: fn(&Path) -> bool, files: &mut Vec<OsString>) {
    match std::fs::read_dir(&path) {
        Ok(_) if path.is_symlink() => {}
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            let wanted_paths = paths.filter(|path| path.is_dir() || wanted(path));
            wanted_paths.for_each(|path| walk(path, wanted, files));
        }
        Err(_) => files.push(path.into()),
    }
}

#[mp::main]
fn main() -> Result<(), mp::Error> {
    let (mut files, mut total) = (Vec::new(), Words::new());
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        [
            "src",
            "mp-runtime/src",
            "mp-macros/src",
            "tests",
            "examples",
            "benches",
        ]
        .map(|dir| {
            walk(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(dir),
                is_rust,
                &mut files,
            )
        });
    }
    paths
        .into_iter()
        .for_each(|path| walk(path, |_| true, &mut files));
    let pool = Pool::with_default_workers()?;
    let start = Instant::now();
    for (file, words) in pool.imap_unordered(count, files.clone()) {
        match words.map_err(|error| error.to_string()).flatten() {
            Ok(words) => words
                .into_iter()
                .for_each(|(word, n)| *total.entry(word).or_default() += n),
            Err(problem) => println!(
                "not counted: {}: {problem}",
                Path::new(&files[file]).display()
            ),
        }
    }
    let by_pool = start.elapsed();
    let _ = by_pool;
    Ok(())
}
