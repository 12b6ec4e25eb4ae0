//! Attributes reach what they are about.
#![deny(missing_docs, warnings, clippy::all)]
#![allow(clippy::non_minimal_cfg, reason = "it is a condition that holds")]
#![deny(
    deprecated,
    dead_code,
    non_camel_case_types,
    non_upper_case_globals,
    unused_must_use
)]

/// Absent.
#[mp::process_fn]
#[cfg(any())]
pub fn absent(nothing: Unknown) {}

// An error in what is absent is absent too.
#[mp::process_fn(timeout = "never")]
#[cfg(any())]
fn absent_and_wrong<T>() {}

#[cfg(any())]
#[mp::process_fn]
fn absent_before() {}

/// Present.
#[mp::process_fn]
#[cfg(all())]
#[cfg_attr(all(), doc = "More docs.")]
#[doc(alias = "here")]
#[inline(never)]
#[track_caller]
pub fn present(n: u32) -> u32 {
    n
}

/// The same name under the opposite condition.
#[mp::process_fn]
#[cfg(not(all()))]
pub fn present(n: u64) -> u64 {
    n
}

#[mp::process_fn]
#[allow(unused_variables, clippy::too_many_arguments)]
fn allowed(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) {}

#[mp::process_fn]
#[expect(unused_variables, reason = "it is about the body alone")]
fn expected(n: u32) {}

#[mp::process_fn]
#[cfg_attr(all(), expect(unused_variables))]
fn expected_somewhere(n: u32) {}

#[mp::process_fn]
fn inner_attribute(n: u32) {
    #![allow(unused_variables)]
}

/// Old.
#[mp::process_fn]
#[deprecated(note = "use `present`")]
pub fn old(n: u32) -> u32 {
    if n == 0 { 0 } else { old(n - 1) }
}

#[mp::process_fn]
#[must_use]
fn useful() -> u32 {
    1
}

#[mp::main]
fn main() {
    assert_eq!(present(1), 1);
    allowed(1, 2, 3, 4, 5, 6, 7, 8);
    expected(1);
    expected_somewhere(1);
    inner_attribute(1);
    assert_eq!(useful(), 1);
    #[allow(deprecated)]
    let zero = old(1);
    assert_eq!(zero, 0);
}
