//! Where a process function can stand, and what it is called there.
#![deny(missing_docs, warnings)]
#![allow(
    unreachable_pub,
    reason = "modules are public here as they are in a library"
)]

use mp::ProcessFn;

/// Recursion, as a call and as a process.
#[mp::process_fn]
pub fn fibonacci(n: u32) -> u64 {
    let apart = || mp::spawn!(fibonacci(n - 1)).ok()?.join().ok();
    match n {
        0 | 1 => u64::from(n),
        2..30 => fibonacci(n - 1) + fibonacci(n - 2),
        _ => apart().unwrap_or_default() + fibonacci(n - 2),
    }
}

mod jobs {
    pub mod images {
        #[mp::process_fn]
        pub fn resize(px: u32) -> u32 {
            super::scale(px)
        }

        #[mp::process_fn(timeout = "1.5m", retries = 2, name = "images.crop")]
        pub(in crate::jobs) fn crop(px: u32) -> u32 {
            px
        }

        // The same name as in the module above.
        #[mp::process_fn]
        pub(super) fn scale(px: u32) -> u32 {
            px * 3
        }
    }

    #[mp::process_fn]
    pub(crate) fn scale(px: u32) -> u32 {
        images::scale(images::crop(px))
    }

    pub(crate) fn name_of_crop() -> &'static str {
        <images::crop as mp::ProcessFn>::NAME
    }
}

use jobs::images::resize;

struct Counter;

impl Counter {
    fn count(&self) -> u32 {
        #[mp::process_fn]
        fn count(n: u32) -> u32 {
            if n == 0 { 0 } else { 1 + count(n - 1) }
        }
        let _ = mp::spawn!(count(4));
        count(4)
    }
}

macro_rules! function {
    ($name:ident, $parameter:ident: $type:ty, $limit:literal, $body:expr) => {
        #[mp::process_fn(timeout = $limit)]
        fn $name($parameter: $type) -> usize {
            $body
        }
    };
}

function!(length, text: &str, "2s", text.len());
function!(bytes, raw: &[u8], "250ms", raw.len());
function!(many, numbers: Vec<f64>, "1h", numbers.len());

macro_rules! start {
    ($call:expr) => {
        mp::spawn!($call)
    };
}

macro_rules! start_with {
    ($function:path, $($argument:expr),*) => {
        mp::spawn!($function($($argument),*))
    };
}

#[mp::process_fn]
fn r#match(r#type: u32) -> u32 {
    r#type
}

#[mp::process_fn]
#[allow(non_snake_case)]
fn Shout(TEXT: &str) -> String {
    TEXT.to_uppercase()
}

fn copied<F: ProcessFn>(function: F) -> (F, F) {
    (function, function)
}

fn main() {
    assert_eq!(fibonacci(10), 55);
    assert_eq!(jobs::scale(1) + resize(1), 6);
    assert_eq!(jobs::name_of_crop(), "images.crop");
    assert_eq!(Counter.count(), 4);
    assert_eq!(length("four") + bytes(b"four") + many(vec![]), 8);
    assert_eq!(r#match(3), 3);
    assert_eq!(Shout("a"), "A");

    let module = module_path!();
    assert_eq!(fibonacci::NAME, format!("{module}::fibonacci"));
    assert_eq!(resize::NAME, format!("{module}::jobs::images::resize"));
    assert_eq!(r#match::NAME, format!("{module}::match"));

    let (one, other) = copied(fibonacci);
    assert_eq!(one(3), other(3));

    let alias = jobs::scale;
    let _ = mp::spawn!(alias(1));
    let _ = mp::spawn!(jobs::images::resize(64));
    let _ = mp::spawn!(crate::jobs::scale(64),);
    let _ = mp::spawn!(self::length("four".to_owned()));
    let _ = mp::spawn!(r#match(1));
    let _ = start_with!(jobs::images::resize, 64);
    let _ = start!(jobs::images::resize(64));
    let _: Result<mp::Process<u64>, mp::Error> = mp::spawn!(fibonacci(3));
}
