use std::borrow::Cow;

struct Job {
    name: String,
}

#[mp::process_fn]
fn trim(text: &str) -> &str {
    text.trim()
}

#[mp::process_fn]
fn rest(values: &[u32]) -> Option<&[u32]> {
    values.get(1..)
}

#[mp::process_fn]
fn name(job: &Job) -> Result<&String, u32> {
    Ok(&job.name)
}

#[mp::process_fn]
fn version() -> &'static str {
    "1"
}

#[mp::process_fn]
fn shout(text: &str) -> Cow<'_, str> {
    text.into()
}

fn main() {
    let _: usize = trim(" a ").len();
}
