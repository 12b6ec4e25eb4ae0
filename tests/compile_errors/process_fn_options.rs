#[mp::process_fn(timeout = "soon")]
fn without_number() {}

#[mp::process_fn(timeout = "2 s")]
fn with_space() {}

#[mp::process_fn(timeout = "2")]
fn without_unit() {}

#[mp::process_fn(timeout = "3d")]
fn unknown_unit() {}

#[mp::process_fn(timeout = "0s")]
fn zero() {}

#[mp::process_fn(timeout = "6000000h")]
fn too_long() {}

#[mp::process_fn(timeout = 2)]
fn number() {}

#[mp::process_fn(retries = "2")]
fn text() {}

#[mp::process_fn(retries = -1)]
fn negative() {}

#[mp::process_fn(retries = 4294967296)]
fn too_many() {}

#[mp::process_fn(name = "")]
fn empty() {}

#[mp::process_fn(name = "a\0b")]
fn nul() {}

#[mp::process_fn(name = resize)]
fn bare() {}

#[mp::process_fn(priority = 3)]
fn unknown() {}

#[mp::process_fn(retries)]
fn without_value() {}

#[mp::process_fn(timeout("2s"))]
fn in_parentheses() {}

#[mp::process_fn(retries = 1, timeout = "2s", retries = 2)]
fn twice() {}

#[mp::process_fn("2s")]
fn only_value() {}

#[mp::process_fn(retries = 1 timeout = "2s")]
fn without_comma() {}

// Every error of one function is reported at once.
#[mp::process_fn(timeout = "2x", priority = 3)]
async fn many(text: &mut str) -> &str {
    text
}

// A function whose options are wrong can still be used.
fn main() {
    without_number();
    let _ = mp::spawn!(unknown_unit());
}
