//! Tasks that go wrong in every way, and a pool that goes on: `cargo run --example crash`.

use std::time::Duration;

use mp::prelude::*;
use nix::sys::signal::{Signal, raise};

#[mp::process_fn(timeout = "500ms", name = "demo.work")]
fn work(how: &str) -> Result<usize, String> {
    match how {
        // The standard library's handler lets the first one pass, in case it was a stack overflow.
        "segfault" => loop {
            raise(Signal::SIGSEGV).map_err(|error| error.to_string())?;
        },
        "overflow the stack" => Ok(deeper(&[0; 1024])),
        "use too much memory" => Ok(std::hint::black_box(vec![1_u8; 1 << 30]).len()),
        "exit" => std::process::exit(3),
        "panic" => panic!("there is no work called {how:?}"),
        "run away" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "fail" => Err("the disk is full".to_owned()),
        _ => Ok(how.len()),
    }
}

fn deeper(stack: &[usize; 1024]) -> usize {
    match std::hint::black_box(stack)[0] {
        0 => deeper(&[stack[1]; 1024]) + 1,
        _ => 0,
    }
}

#[mp::main]
fn main() -> Result<(), mp::Error> {
    let builder = Pool::builder().workers(2).name("demo");
    let pool = builder.memory_limit(512 << 20).build()?;
    let ways = [
        "segfault",
        "overflow the stack",
        "use too much memory",
        "exit",
        "panic",
        "run away",
        "fail",
        "nothing",
    ];
    for (way, result) in ways.iter().zip(pool.imap(work, ways.map(String::from))) {
        match result {
            Ok(Ok(length)) => println!("{way}: fine, {length}"),
            Ok(Err(reason)) => println!("{way}: returned an error of its own: {reason}"),
            Err(error) => {
                println!("{way}: {:?}: {error}", error.kind());
                // What the runtime, or a C library, had to say before it gave up.
                let text = error.stderr().unwrap_or_default();
                if let Some(line) = text.lines().find(|line| !line.is_empty()) {
                    println!("    it had said: {line}");
                }
            }
        }
    }
    let lengths = pool.map(work, ["the", "pool", "works"].map(String::from))?;
    println!("and after all that: {lengths:?}");
    pool.join()
}
