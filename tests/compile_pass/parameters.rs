//! Every form a parameter can have.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]
#![allow(clippy::too_many_arguments, reason = "there are as many as can be")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use mp::ProcessFn;
use serde::{Deserialize, Serialize};

type Real = f64;
type Samples = Vec<Real>;

#[derive(Serialize, Deserialize, Clone, Default)]
struct Config {
    threads: u32,
}

/// Documented.
#[mp::process_fn]
pub fn nothing() {}

#[mp::process_fn]
fn numbers(a: u8, b: i64, c: f32, d: bool, e: char) -> f64 {
    let _ = (d, e);
    f64::from(a) + b as f64 + f64::from(c)
}

#[mp::process_fn]
fn lent(text: &str, raw: &[u8], samples: &[f64], config: &Config, words: &[String]) -> usize {
    text.len() + raw.len() + samples.len() + config.threads as usize + words.len()
}

#[mp::process_fn]
#[allow(unused_parens)]
fn in_parentheses(text: &(str), raw: (&[u8]), nested: (Option<(u8)>)) -> usize {
    text.len() + raw.len() + usize::from(nested.unwrap_or(0))
}

#[mp::process_fn]
fn anonymous_lifetime(text: &'_ str, config: &'_ Config) -> usize {
    text.len() + config.threads as usize
}

#[mp::process_fn]
fn aliases(reals: Vec<Real>, samples: Samples, whole: &Samples, slice: &[Real]) -> Samples {
    [reals, samples, whole.clone(), slice.to_vec()].concat()
}

#[mp::process_fn]
fn owned(
    text: String,
    raw: Vec<u8>,
    map: HashMap<String, Vec<Config>>,
    tree: BTreeMap<u8, [f64; 4]>,
    boxed: Box<Config>,
    cow: Cow<'static, str>,
    path: std::path::PathBuf,
    unit: (),
) -> Result<(String, Vec<u8>), Option<u32>> {
    let _ = (map, tree, boxed, cow, path, unit);
    Ok((text, raw))
}

#[mp::process_fn]
fn patterns(
    mut count: u32,
    (a, b): (u32, u32),
    Config { threads }: Config,
    [first, ..]: [u8; 4],
    _: String,
    _unused: u8,
    &(c, d): &(u32, u32),
) -> u32 {
    count += a + b + c + d + threads + u32::from(first);
    count
}

#[mp::process_fn]
fn attributes_of_parameters(#[allow(unused_variables)] n: u32) {}

#[mp::process_fn]
fn twelve(
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    e: u8,
    f: u8,
    g: u8,
    h: u8,
    i: u8,
    j: u8,
    k: u8,
    l: u8,
) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l
}

#[mp::process_fn]
const fn constant(n: u32) -> u32 {
    n + 1
}

// The macro's own names do not meet the user's, not even where a function is called like a
// variable of it.
#[mp::process_fn]
fn call(from: u32, to: u32) -> u32 {
    from + to
}

#[mp::process_fn]
fn output(arguments: u32) -> u32 {
    arguments
}

fn arguments_of<F: ProcessFn<Args = A>, A>(_: F) {}
fn output_of<F: ProcessFn<Output = R>, R>(_: F) {}

fn main() {
    nothing();
    assert_eq!(numbers(1, 2, 3.0, true, 'e'), 6.0);
    assert_eq!(lent("ab", b"c", &[1.0], &Config::default(), &[]), 4);
    assert_eq!(in_parentheses("a", b"b", None), 2);
    assert_eq!(anonymous_lifetime("a", &Config::default()), 1);
    assert_eq!(aliases(vec![1.0], vec![], &vec![], &[2.0]), [1.0, 2.0]);
    assert_eq!(
        patterns(
            1,
            (2, 3),
            Config { threads: 4 },
            [5; 4],
            String::new(),
            0,
            &(6, 7)
        ),
        28
    );
    attributes_of_parameters(1);
    assert_eq!(twelve(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 12);
    assert_eq!(constant(1), 2);
    assert_eq!(call(1, output(2)), 3);
    let pointer: fn(u32) -> u32 = *constant;
    assert_eq!(pointer(1), 2);

    arguments_of::<_, ()>(nothing);
    arguments_of::<_, (u8, i64, f32, bool, char)>(numbers);
    arguments_of::<_, (String, Vec<u8>, Vec<f64>, Config, Vec<String>)>(lent);
    arguments_of::<_, (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>)>(aliases);
    arguments_of::<_, (u32,)>(constant);
    output_of::<_, ()>(nothing);
    output_of::<_, Vec<f64>>(aliases);
    output_of::<_, Result<(String, Vec<u8>), Option<u32>>>(owned);
}
