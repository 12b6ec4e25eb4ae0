//! An attribute below `#[mp::main]` sees the user's `main`, whole.
#![deny(missing_docs, warnings)]

#[mp::main]
#[mp::main]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
