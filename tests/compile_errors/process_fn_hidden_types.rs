#[mp::process_fn]
fn total(values: impl Iterator<Item = u32>) -> u32 {
    values.sum()
}

#[mp::process_fn]
fn evens(end: u32) -> impl Iterator<Item = u32> {
    (0..end).filter(|n| n % 2 == 0)
}

#[mp::process_fn]
fn show(value: &dyn std::fmt::Display) -> String {
    value.to_string()
}

#[mp::process_fn]
fn first(values: Vec<_>) -> u8 {
    values[0]
}

#[mp::process_fn]
fn peek(address: *const u8) -> bool {
    address.is_null()
}

fn main() {}
