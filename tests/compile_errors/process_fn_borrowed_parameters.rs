use std::borrow::Cow;

#[mp::process_fn]
fn sort(values: &mut Vec<u32>) {
    values.sort();
}

#[mp::process_fn]
fn sort_some(values: Option<&mut [u32]>) {
    let _ = values;
}

#[mp::process_fn]
fn greet(name: Option<&str>) -> String {
    name.unwrap_or("you").to_owned()
}

#[mp::process_fn]
fn join(words: &[&str]) -> String {
    words.concat()
}

#[mp::process_fn]
fn both(pair: (&str, u32)) -> u32 {
    pair.1
}

#[mp::process_fn]
fn remember(text: &'static str) -> usize {
    text.len()
}

#[mp::process_fn]
fn named(text: &'a str) -> usize {
    text.len()
}

#[mp::process_fn]
fn shout(text: Cow<'_, str>) -> String {
    text.to_uppercase()
}

fn main() {}
