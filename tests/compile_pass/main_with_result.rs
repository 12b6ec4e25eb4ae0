//! `main` keeps its return type, its attributes and its docs.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]

/// The program.
#[mp::main]
#[allow(unused_variables)]
fn main() -> Result<(), mp::Error> {
    let unused = 1;
    let inferred = "12".parse().map_err(|_| ());
    assert_eq!(inferred, Ok(12));
    Ok(())
}
