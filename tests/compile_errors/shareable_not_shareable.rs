use std::fs::File;

use mp::sync::Mutex;
use mp::{Shareable, Shared};

struct Plain {
    number: u32,
}

// A name alone does not tell which type it is, but its path does.
struct String;

#[derive(Shareable)]
struct Outer {
    plain: Plain,
    listed: [Plain; 2],
    file: File,
    text: self::String,
    fine: u32,
}

#[derive(Shareable)]
struct Handles(Shared<u32>, mp::Value<u32>);

#[derive(Shareable)]
struct Generic<T> {
    value: T,
}

fn generic(value: Generic<Plain>) {
    let _ = Shared::new(value);
}

fn main() {
    let _ = Shared::new(Plain { number: 1 });
    let _ = Shared::new(Mutex::new(vec![1]));
    let _ = generic;
}
